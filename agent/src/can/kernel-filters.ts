/** A frame passes when its id, with the flag of extended ids, equals `id` in all bits of `mask`. */
export interface KernelFilter {
  id: number;
  mask: number;
}

/** Flag of 29-bit ids, as the kernel has it; masks also fix the flag of remote frames, which carry no signals. */
const EXTENDED = 0x8000_0000;
const REMOTE = 0x4000_0000;
/** The kernel takes 512 per socket (CAN_RAW_FILTER_MAX), and diagnostics add a few of their own. */
const FILTERS_MAX = 500;

/**
 * Filters that let every wanted message pass, of a DBC for example, and as little else as possible: one per id; when there are more than
 * `max`, those that differ least are joined by a mask that ignores the bits in which they differ.
 */
export function kernelFilters(
  wanted: { messages: readonly { id: number; extended: boolean }[] },
  max = FILTERS_MAX,
): KernelFilter[] {
  const exact = new Map<number, KernelFilter>();
  for (const { id, extended } of wanted.messages) {
    const key = (extended ? id | EXTENDED : id) >>> 0;
    exact.set(key, { id: key, mask: (EXTENDED | REMOTE | (extended ? 0x1fff_ffff : 0x7ff)) >>> 0 });
  }
  let filters = [...exact.values()].sort((a, b) => a.id - b.id);
  // The lowest bits first: neighbours in a DBC differ there. Every round ignores one more bit of the ids.
  for (let bit = 0; filters.length > max && bit < 29; bit++) {
    const joined = new Map<string, KernelFilter>();
    for (const filter of filters) {
      const mask = (filter.mask & ~(1 << bit)) >>> 0;
      const id = (filter.id & mask) >>> 0;
      joined.set(`${id}/${mask}`, { id, mask });
    }
    filters = [...joined.values()];
  }
  return filters;
}
