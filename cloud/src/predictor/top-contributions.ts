import type { Model, ScoreContributions, Scorer } from '@cardan/shared';

/** From this part of the threshold on a score is explained: soon enough to see what an alarm grows out of. */
const EXPLAINED_PART = 0.5;
/** Signals that are named for one row. A fault shows in one to three; the rest is noise. */
const SIGNALS_NAMED = 3;

/**
 * Collects, while the rows of a batch are scored, which signals the high scores are made of. Kept small: calm rows add
 * nothing, others at most `SIGNALS_NAMED` numbers twice.
 */
export class TopContributions {
  private readonly from: number;
  private readonly named: number;
  private readonly parts: Float32Array<ArrayBuffer>;
  private readonly rows: number[] = [];
  private readonly topSignals: number[] = [];
  private readonly topParts: number[] = [];

  constructor({ manifest }: Model) {
    const signals = manifest.signalSet.signals.length;
    this.from = EXPLAINED_PART * manifest.alarm.threshold;
    this.named = Math.min(SIGNALS_NAMED, signals);
    this.parts = new Float32Array(signals);
  }

  /** To be called right after the scorer has given `score` to row `row`. */
  note(row: number, score: number, scorer: Scorer): void {
    // Written so that NaN is left out; what an infinite score is made of nobody can say.
    if (!(score >= this.from) || score === Infinity) return;
    const { parts } = this;
    scorer.contributions(parts);
    this.rows.push(row);
    for (let k = 0; k < this.named; k++) {
      let top = 0;
      for (let i = 1; i < parts.length; i++) if (parts[i]! > parts[top]!) top = i;
      this.topSignals.push(top);
      this.topParts.push(Math.max(0, parts[top]!));
      parts[top] = -1;
    }
  }

  /** What was noted since the last call; undefined when no score was high. */
  take(): ScoreContributions | undefined {
    if (this.rows.length === 0) return undefined;
    return {
      rows: Uint32Array.from(this.rows.splice(0)),
      signals: Uint32Array.from(this.topSignals.splice(0)),
      parts: Float32Array.from(this.topParts.splice(0)),
    };
  }
}
