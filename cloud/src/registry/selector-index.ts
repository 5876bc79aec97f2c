import type { VehicleSelector } from '@cardan/shared';

/**
 * Finds those of many selectors that may be for a vehicle, without a look at each: by the part of their globs before the
 * first `*` or `?`. A fleet has up to a thousand campaigns, most of them for a few cars, and each poll of each car asks.
 */
export class SelectorIndex<T> {
  /** For every vehicle, or by globs that begin with a star. */
  private readonly always = new Set<T>();
  private readonly exact = new Map<string, Set<T>>();
  /** By the length of the beginning: a vehicle id has 64 characters at most, so as many look-ups. */
  private readonly beginnings = new Map<number, Map<string, Set<T>>>();

  add({ ids }: VehicleSelector, item: T): void {
    if (ids === undefined) this.always.add(item);
    else for (const glob of ids) this.addGlob(glob, item);
  }

  /** All items that can be for the vehicle; some may not be. Each once, in no order. */
  candidates(vehicle: string): Set<T> {
    const exact = this.exact.get(vehicle);
    if (exact === undefined && this.beginnings.size === 0) return this.always;
    const found = new Set(this.always);
    for (const item of exact ?? []) found.add(item);
    for (const [length, items] of this.beginnings)
      for (const item of items.get(vehicle.slice(0, length)) ?? []) found.add(item);
    return found;
  }

  private addGlob(glob: string, item: T): void {
    const wild = glob.search(/[*?]/);
    if (wild === 0) this.always.add(item);
    else if (wild < 0) put(this.exact, glob, item);
    else {
      let ofLength = this.beginnings.get(wild);
      if (ofLength === undefined) this.beginnings.set(wild, (ofLength = new Map<string, Set<T>>()));
      put(ofLength, glob.slice(0, wild), item);
    }
  }
}

function put<T>(map: Map<string, Set<T>>, key: string, item: T): void {
  const items = map.get(key);
  if (items === undefined) map.set(key, new Set([item]));
  else items.add(item);
}
