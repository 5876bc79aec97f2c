import {
  CardanError,
  cloudEvent,
  type CloudEvent,
  type EventData,
  type EventType,
  type Campaign,
  isForVehicle,
  type VehicleIdentity,
} from '@cardan/shared';
import type { CanFrame } from '../can/can-frame.ts';
import type { Decoder, MessageDecoder } from '../dbc/index.ts';
import type { Outbox, RowContext } from '../outbox.ts';
import type { SignalMap } from '../vss.ts';
import { Collector, type CampaignStatus } from './collector.ts';
import { FrameRecorder } from './frame-recorder.ts';

/** For the rings and windows of all campaigns: minutes at full rate of some twenty signals. */
const MEMORY_BYTES = 16 * 1024 * 1024;

export interface CampaignsOptions {
  vehicle: VehicleIdentity;
  decoder: Decoder;
  map: SignalMap;
  outbox: Outbox;
  staleMs: number;
  /** The wall clock, milliseconds since 1970. */
  now: () => number;
  onProblem: (error: CardanError) => void;
}

/**
 * The campaigns of this car at work: frames → rows, raw frames and triggers → outbox. Some are given at the start and
 * stay; those from the cloud come and go while the car drives.
 */
export class Campaigns {
  private readonly options: CampaignsOptions;
  private readonly collector: Collector;
  private readonly raw: FrameRecorder;
  private own: readonly Campaign[] = [];
  private fromCloud: readonly Campaign[] = [];
  private running = false;
  private readonly contexts = new Map<string, RowContext>();
  /** Signal sets that the log has been told of since the start. */
  private readonly described = new Set<string>();

  constructor(options: CampaignsOptions) {
    this.options = options;
    const { decoder, map, outbox } = options;
    const names = namesOf(decoder, map);
    this.raw = new FrameRecorder((campaign, candump, frames) =>
      this.emit(campaign, 'io.cardan.vehicle.can-frames', frames.time, {
        campaign: campaign.id,
        version: campaign.version,
        frames: frames.count,
        candump,
      }),
    );
    this.collector = new Collector({
      signals: names.signals,
      column: (name) => names.columns.get(name),
      staleMs: options.staleMs,
      memoryBytes: MEMORY_BYTES,
      now: options.now,
      onRow: (campaign, time, values) =>
        outbox.addRow(Math.round(time), values, undefined, this.contexts.get(campaign.id)!),
      onFrame: (campaign, frame) => this.raw.add(campaign, frame),
      onTrigger: (campaign, { time, prolongs }) => {
        if (!prolongs)
          this.emit(campaign, 'io.cardan.vehicle.campaign-triggered', time, {
            campaign: campaign.id,
            version: campaign.version,
          });
      },
    });
  }

  /** The campaigns that were given at the start. Throws CAMPAIGN_INVALID, and then changes nothing. */
  setOwn(campaigns: readonly Campaign[]): void {
    this.replace(campaigns, this.fromCloud);
  }

  /**
   * The campaigns that the cloud wants now, from the next frame on. Those for other vehicles are left out, and those
   * with the id of one that was given at the start. Throws CAMPAIGN_INVALID, and then changes nothing.
   */
  setFromCloud(campaigns: readonly Campaign[]): void {
    this.replace(this.own, campaigns);
  }

  /** Takes a frame whose message, if it is known, has been decoded. */
  take(frame: CanFrame, message: MessageDecoder | undefined): void {
    if (!this.running) return;
    const { collector } = this;
    if (message !== undefined) {
      const { values, present } = this.options.decoder;
      const end = message.first + message.count;
      for (let slot = message.first; slot < end; slot++)
        if (present[slot] === 1) collector.set(slot, values[slot]!, frame.time);
    }
    collector.sample(frame.time);
    collector.frame(frame);
    this.raw.advance(frame.time);
  }

  /** Whether any campaign is there, so that every known frame must be decoded. */
  get active(): boolean {
    return this.running;
  }

  status(): CampaignStatus[] {
    return this.collector.status();
  }

  /** Hands over the raw frames that wait for more. */
  flush(): void {
    this.raw.flush();
  }

  private replace(own: readonly Campaign[], fromCloud: readonly Campaign[]): void {
    const { vehicle, onProblem } = this.options;
    const ownIds = new Set(own.map(({ id }) => id));
    const wanted = [...own, ...fromCloud.filter(({ id }) => !ownIds.has(id))];
    const before = new Map(this.status().map(({ campaign }) => [campaign.id, campaign.version]));
    this.raw.flush();
    this.collector.replace(wanted.filter((campaign) => isForVehicle(campaign, vehicle)));
    this.own = own;
    this.fromCloud = fromCloud;
    this.running = false;
    this.contexts.clear();
    for (const { campaign, signalSet, unknownSignals } of this.status()) {
      this.running = true;
      this.contexts.set(campaign.id, {
        signalSet: signalSet.id,
        modelName: '',
        modelVersion: '',
        campaign: campaign.id,
        priority: campaign.priority,
        compression: campaign.compression,
        persistence: campaign.persistence,
      });
      if (!this.described.has(signalSet.id))
        this.emit(campaign, 'io.cardan.signal-set', this.options.now(), signalSet);
      this.described.add(signalSet.id);
      if (unknownSignals.length > 0 && before.get(campaign.id) !== campaign.version)
        onProblem(
          new CardanError(
            'CAMPAIGN_SIGNAL_UNKNOWN',
            `Campaign ${campaign.id} ${campaign.version}: this car has no ${unknownSignals.slice(0, 10).join(', ')}` +
              `${unknownSignals.length > 10 ? ` and ${unknownSignals.length - 10} more` : ''}. What needs it stays empty.`,
          ),
        );
    }
  }

  private emit<K extends EventType>(campaign: Campaign, type: K, time: number, data: EventData[K]): void {
    const { vehicle, outbox } = this.options;
    outbox.addEvent(
      ({ epoch, sequence }): CloudEvent =>
        cloudEvent(
          type,
          { source: `/vehicles/${vehicle.id}`, id: `${epoch}-${sequence}`, time: Math.round(time) },
          data,
        ),
      // The description of columns is worth as much as the rows of any campaign that has them.
      type === 'io.cardan.signal-set' ? {} : { priority: campaign.priority, campaign: campaign.id },
    );
  }
}

/** The car's signals are the slots of its decoder. Each goes by its VSS path, `Message.Signal`, and its DBC name. */
function namesOf(decoder: Decoder, map: SignalMap) {
  const vss = new Map(map.columns.map((column) => [`${column.message}.${column.dbcSignal}`, column]));
  const signals: { name: string; unit: string }[] = [];
  const columns = new Map<string, number>();
  const add = (name: string, column: number) => {
    if (!columns.has(name)) columns.set(name, column);
  };
  const all = decoder.messages.flatMap(({ message }) =>
    message.signals.map((signal) => ({ signal, full: `${message.name}.${signal.name}` })),
  );
  // A name that is given on purpose comes before the same name that a message happens to have.
  all.forEach(({ full }, column) => {
    const mapped = vss.get(full);
    if (mapped !== undefined) add(mapped.name, column);
  });
  all.forEach(({ full }, column) => add(full, column));
  all.forEach(({ signal, full }, column) => {
    add(signal.name, column);
    signals.push({ name: vss.get(full)?.name ?? full, unit: vss.get(full)?.unit ?? signal.unit });
  });
  return { signals, columns };
}
