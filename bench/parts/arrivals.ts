import type { UpdatedLine } from './updaters-process.ts';

/** Which car of a fleet has which version since when. */
export class Arrivals {
  private readonly of = new Map<string, Map<string, number>>();
  private readonly vehicles: number;
  private wake: () => void = () => undefined;

  constructor(vehicles: number) {
    this.vehicles = vehicles;
  }

  take({ vehicle, version, at }: UpdatedLine): void {
    const cars = this.of.get(version) ?? new Map<string, number>();
    this.of.set(version, cars.set(vehicle, at));
    this.wake();
  }

  /** Resolves to the times when every car has it. */
  async all(version: string): Promise<number[]> {
    while ((this.of.get(version)?.size ?? 0) < this.vehicles)
      await new Promise<void>((resolve) => (this.wake = resolve));
    return [...this.of.get(version)!.values()];
  }
}
