/** Names of the benches' cars: as long as real ones, and in the order of their numbers. */
export function benchCarId(number: number): string {
  return `car-${String(number).padStart(6, '0')}`;
}
