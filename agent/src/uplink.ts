import mqtt, { type MqttClient } from 'mqtt';
import {
  CardanError,
  encodeTelemetry,
  messageOf,
  mqttTopic,
  parseAck,
  type MqttConnection,
  type TelemetryBatch,
  type VehicleReported,
} from '@cardan/shared';
import { AGENT_DEFAULTS } from './config.ts';
import { PRIORITY_ALARM, systemClock, type Clock, type Compression, type Outbox } from './outbox.ts';
import { compressed } from './uplink/compress.ts';
import { DayBudget } from './uplink/day-budget.ts';
import { Pace } from './uplink/pace.ts';

export interface UplinkOptions {
  /** `mqtt://host:1883` or `mqtts://host:8883`. */
  url: string;
  /** User, password, certificates: passed to the MQTT client. */
  connection?: MqttConnection;
  vehicle: string;
  outbox: Outbox;
  /** A batch is sent when it has this many rows … */
  batchRows: number;
  /** … or when its oldest row has waited this long (milliseconds). */
  batchMs: number;
  /** Most rows of a batch while a backlog is being sent. */
  backlogBatchRows: number;
  /** Without an acknowledgement for this long, a batch is sent again (milliseconds); doubles up to 8 times that. */
  ackTimeoutMs: number;
  /** Most bytes of a batch, and how many are reason enough to send one. */
  batchBytes?: number;
  /** Rows of a backlog go up at this rate on average; infinite for no limit. Nothing limits `drain`. */
  backlogRowsPerSecond?: number;
  /** Bytes that may go up per day (UTC) on a metered link. Events always go, and count; rows wait. */
  dayBytesMax?: number;
  /** How rows go up whose campaign does not say. */
  compression?: Compression;
  /** What is waited by; days are counted by its wall clock. */
  clock?: Clock;
  onDesired: (payload: Buffer) => void;
  onProblem: (error: CardanError) => void;
}

/** One stream of the outbox: at most one batch of it is under way, so that its order holds. */
interface Flight {
  /** Sequence number of its last row or event. */
  last: number;
  timer: NodeJS.Timeout;
  /** It is an alarm that is sent for the first time. */
  first?: boolean;
}

/** While the budget is spent, the calendar is looked at this often. */
const BUDGET_LOOK_MS = 60_000;

/** While rows wait for the clock to be set, it is looked at this often. */
const CLOCK_LOOK_MS = 5000;

/** What a message costs beside topic and payload: MQTT's header and PUBACK, TCP and IP of both, without TLS. */
const MESSAGE_OVERHEAD_BYTES = 100;

/**
 * Sends the outbox over MQTT, and empties it as acknowledgements come in. MQTT's own PUBACK is not enough: it
 * says that a broker has a message, not that the log has it.
 */
export class Uplink {
  private readonly options: UplinkOptions & { batchBytes: number; clock: Clock; compression: Compression };
  private readonly pace: Pace;
  private readonly budget: DayBudget;
  private resumeTimer: NodeJS.Timeout | undefined;
  /** The day on which it was last said that the budget is spent, by its end. */
  private budgetSaid = Number.NEGATIVE_INFINITY;
  private clockSaid = false;
  /** Why rows, or events, cannot go now, though the broker is there. */
  private waiting: CardanError | undefined;
  private readonly client: MqttClient;
  private rows: Flight | undefined;
  private events: Flight | undefined;
  private batchTimer: NodeJS.Timeout | undefined;
  /** Rows up to this number have waited long enough, whether they make full batches or not. */
  private dueUpTo = 0;
  private reported: string | undefined;
  private draining: { resolve: () => void } | undefined;
  /** Connected, and subscribed to the acknowledgements: what is sent before could be acknowledged unheard. */
  private ready = false;
  private closed = false;

  constructor(options: UplinkOptions) {
    const { batchBytes, backlogRowsPerSecond, dayBytesMax, compression } = AGENT_DEFAULTS.uplink;
    this.options = { batchBytes, compression, clock: systemClock, ...options };
    this.pace = new Pace(options.backlogRowsPerSecond ?? backlogRowsPerSecond);
    this.budget = new DayBudget(options.dayBytesMax ?? dayBytesMax, options.outbox);
    const { vehicle } = options;
    this.client = mqtt.connect(options.url, {
      ...options.connection,
      clientId: `cardan-agent-${vehicle}`,
      // 3.1.1: every broker speaks it, the embedded one nothing else.
      protocolVersion: 4,
      clean: false,
      reconnectPeriod: 1000,
      connectTimeout: 10_000,
      keepalive: 30,
      queueQoSZero: false,
      will: {
        topic: mqttTopic(vehicle, 'status'),
        payload: Buffer.from(JSON.stringify({ online: false })),
        qos: 1,
        retain: true,
      },
    });
    this.client.on('connect', () => this.connected());
    this.client.on('close', () => {
      this.ready = false;
    });
    this.client.on('message', (topic, payload) => this.received(topic, payload));
    this.client.on('error', (cause) => {
      options.onProblem(
        new CardanError(
          'MQTT_UNREACHABLE',
          `MQTT broker ${options.url}: ${messageOf(cause)}. Trying again.`,
          { cause },
        ),
      );
    });
    options.outbox.notify(() => this.pump());
  }

  get connectedNow(): boolean {
    return this.client.connected;
  }

  /** Bytes sent today (UTC); counted only with a budget. */
  get bytesToday(): number {
    return this.budget.spent(this.options.clock.wallMs());
  }

  /** Publishes what the car says of itself, retained; while offline the newest one waits. */
  report(reported: VehicleReported): void {
    this.reported = JSON.stringify(reported);
    if (this.client.connected) this.publishReported();
  }

  /**
   * Sends what is there without waiting for full batches; resolves when everything is acknowledged, or all but rows that
   * may not go today or not yet: `onProblem` hears of those.
   */
  drain(): Promise<void> {
    this.options.outbox.flush();
    return new Promise((resolve) => {
      this.draining = { resolve };
      this.pump();
      this.checkDrained();
    });
  }

  /** Says goodbye and disconnects. What is not acknowledged stays in the outbox. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.batchTimer);
    clearTimeout(this.resumeTimer);
    clearTimeout(this.rows?.timer);
    clearTimeout(this.events?.timer);
    const { client } = this;
    if (client.connected) {
      // The broker may go in this very moment, and the goodbye would wait for it to come back.
      const lost = new Promise<void>((resolve) => {
        client.once('close', () => resolve());
      });
      const said = client
        .publishAsync(mqttTopic(this.options.vehicle, 'status'), JSON.stringify({ online: false }), {
          qos: 1,
          retain: true,
        })
        .catch(() => undefined);
      await Promise.race([said, lost]);
    }
    await client.endAsync(!client.connected);
  }

  private connected(): void {
    const { vehicle } = this.options;
    this.client.subscribe(
      { [mqttTopic(vehicle, 'ack')]: { qos: 0 }, [mqttTopic(vehicle, 'desired')]: { qos: 1 } },
      (error, granted) => {
        if (this.closed) return;
        const refused = granted?.find(({ qos }) => qos === 128);
        if (error !== null || refused !== undefined) {
          this.options.onProblem(
            new CardanError(
              'MQTT_REFUSED',
              `The broker refused ${refused?.topic ?? 'a subscription'}; check that its access list allows ${vehicle} its own topics.`,
              { cause: error },
            ),
          );
          return;
        }
        this.publish(mqttTopic(vehicle, 'status'), Buffer.from(JSON.stringify({ online: true })), true);
        if (this.reported !== undefined) this.publishReported();
        // What was under way may have been lost with the connection; readers drop the copy if it was not.
        this.land('rows');
        this.land('events');
        this.ready = true;
        this.pump();
      },
    );
  }

  private received(topic: string, payload: Buffer): void {
    const { vehicle, outbox } = this.options;
    if (topic === mqttTopic(vehicle, 'desired')) {
      this.options.onDesired(payload);
      return;
    }
    if (topic !== mqttTopic(vehicle, 'ack')) return;
    let ack;
    try {
      ack = parseAck(payload);
    } catch (error) {
      if (error instanceof CardanError) this.options.onProblem(error);
      return;
    }
    if (ack.epoch !== outbox.epoch) return; // for an outbox that is no more
    for (const [first, last] of ack.rows) outbox.acknowledgeRows(first, last);
    for (const [first, last] of ack.events) outbox.acknowledgeEvents(first, last);
    // A flight has landed when nothing of it is left; the acknowledgement of a part lets it fly on.
    if (this.rows !== undefined && outbox.oldestRow > this.rows.last) this.land('rows');
    if (this.events !== undefined && !outbox.hasEvent(this.events.last)) this.land('events');
    this.pump();
  }

  private land(stream: 'rows' | 'events'): void {
    clearTimeout(this[stream]?.timer);
    this[stream] = undefined;
  }

  /** Sends what may be sent now. */
  private pump(): void {
    if (this.closed || !this.ready) return;
    if (this.events === undefined) this.sendEvents(0);
    // Alarms go before a backlog; one that nobody acknowledges holds the rows up for one timeout, not for good.
    if (this.rows === undefined && !(this.events?.first === true)) this.sendRows(0);
    this.checkDrained();
  }

  private sendRows(tries: number): void {
    const { outbox, batchRows, backlogBatchRows, batchBytes, batchMs, clock } = this.options;
    const pending = outbox.pendingRows;
    if (pending === 0) return;
    const isBacklog = pending > batchRows;
    const due =
      pending >= batchRows ||
      outbox.pendingBytes >= batchBytes ||
      this.draining !== undefined ||
      tries > 0 ||
      outbox.oldestRow <= this.dueUpTo;
    if (!due) {
      this.batchTimer ??= setTimeout(() => {
        this.batchTimer = undefined;
        this.dueUpTo = outbox.nextSequence - 1;
        this.pump();
      }, batchMs);
      return;
    }
    const waitMs = this.draining === undefined ? this.pace.waitMs(clock.monotonicMs()) : 0;
    if (waitMs > 0) {
      this.resumeIn(waitMs);
      return;
    }
    const fitting = this.fittingBatch(isBacklog ? backlogBatchRows : batchRows);
    if (fitting === undefined) return;
    const { batch, payload } = fitting;
    clearTimeout(this.batchTimer);
    this.batchTimer = undefined;
    if (isBacklog) this.pace.spend(batch.times.length, clock.monotonicMs());
    this.publish(this.telemetryTopic, payload, false);
    const last = batch.firstSequence + batch.times.length - 1;
    this.rows = this.takeOff(last, tries, (again) => {
      this.rows = undefined;
      this.sendRows(again);
    });
  }

  private sendEvents(tries: number): void {
    const { outbox } = this.options;
    const [event] = outbox.nextEvents(1);
    if (event === undefined) {
      if (outbox.pendingEvents > 0 && outbox.waitsForClock) this.waitForClock();
      return;
    }
    this.publish(mqttTopic(this.options.vehicle, 'event'), Buffer.from(event.json), false);
    this.events = this.takeOff(event.sequence, tries, (again) => {
      this.events = undefined;
      this.sendEvents(again);
      this.pump();
    });
    this.events.first = tries === 0 && event.priority >= PRIORITY_ALARM;
  }

  /** The oldest rows as they go up: as many as the budget of the day has room for. */
  private fittingBatch(rowsMax: number): { batch: TelemetryBatch; payload: Buffer } | undefined {
    const { outbox, batchBytes, compression, clock } = this.options;
    this.waiting = undefined;
    const now = clock.wallMs();
    const room = this.budget.left(now) - costOf(this.telemetryTopic, 0);
    for (let rows = rowsMax; ;) {
      const batch = outbox.oldestRows(rows, batchBytes);
      if (batch === undefined) {
        // Or rows that are still in memory; they announce themselves.
        if (outbox.waitsForClock) this.waitForClock();
        return undefined;
      }
      const payload = compressed(encodeTelemetry(batch), batch.compression ?? compression);
      if (payload.byteLength <= room) return { batch, payload };
      const count = batch.times.length;
      if (count === 1 || room <= 0) {
        this.waitForBudget(now);
        return undefined;
      }
      // Names and numbers that every batch has make it a little too large again, at most a few times.
      rows = Math.max(1, Math.min(count - 1, Math.floor((count * room) / payload.byteLength)));
    }
  }

  private waitForBudget(now: number): void {
    const nextDay = now + this.budget.nextDayMs(now);
    // A day is longer than a clock may be trusted for: it could be set meanwhile.
    this.resumeIn(Math.min(nextDay - now, BUDGET_LOOK_MS));
    this.waiting = new CardanError(
      'UPLINK_BUDGET',
      `${this.budget.spent(now)} of ${this.budget.bytesMax} bytes of today (UTC) have been sent; ` +
        `${this.options.outbox.pendingRows} rows wait until tomorrow, events go on. ` +
        'Raise the budget if too many rows are dropped.',
    );
    if (this.budgetSaid === nextDay) return;
    this.budgetSaid = nextDay;
    this.options.onProblem(this.waiting);
  }

  private waitForClock(): void {
    const { outbox } = this.options;
    this.resumeIn(CLOCK_LOOK_MS);
    this.waiting = new CardanError(
      'CLOCK_UNKNOWN',
      `The computer's clock has not been set: ${outbox.pendingRows} rows and ${outbox.pendingEvents} events wait until ` +
        'it is, and get their right times then. Check that it reaches a time server.',
    );
    if (this.clockSaid) return;
    this.clockSaid = true;
    this.options.onProblem(this.waiting);
  }

  private get telemetryTopic(): string {
    return mqttTopic(this.options.vehicle, 'telemetry');
  }

  private resumeIn(ms: number): void {
    this.resumeTimer ??= setTimeout(() => {
      this.resumeTimer = undefined;
      this.pump();
    }, ms);
  }

  private takeOff(last: number, tries: number, again: (tries: number) => void): Flight {
    const wait = this.options.ackTimeoutMs * 2 ** Math.min(tries, 3);
    const timer = setTimeout(() => {
      // While offline nothing is sent; the next connection begins anew.
      if (this.ready) again(tries + 1);
    }, wait);
    return { last, timer };
  }

  private publishReported(): void {
    this.publish(mqttTopic(this.options.vehicle, 'reported'), Buffer.from(this.reported ?? ''), true);
  }

  private publish(topic: string, payload: Buffer, retain: boolean): void {
    this.budget.spend(costOf(topic, payload.byteLength), this.options.clock.wallMs());
    this.client.publish(topic, payload, { qos: 1, retain }, (error) => {
      if (error && !this.closed && this.client.connected)
        this.options.onProblem(
          new CardanError('MQTT_UNREACHABLE', `Could not publish to ${topic}: ${error.message}.`, {
            cause: error,
          }),
        );
    });
  }

  private checkDrained(): void {
    const { outbox, onProblem } = this.options;
    const { draining, waiting } = this;
    if (draining === undefined || this.rows !== undefined || this.events !== undefined) return;
    const [pendingRows, pendingEvents] = [outbox.pendingRows, outbox.pendingEvents];
    if (pendingRows > 0 || pendingEvents > 0) {
      if (!this.ready || waiting === undefined) return;
      if (pendingEvents > 0 && outbox.nextEvents(1).length > 0) return;
      onProblem(waiting);
    }
    this.draining = undefined;
    draining.resolve();
  }
}

/** What a message takes of a metered link. */
function costOf(topic: string, payloadBytes: number): number {
  return payloadBytes + topic.length + MESSAGE_OVERHEAD_BYTES;
}
