import type { HyperParameters } from './hyper-parameters.ts';

/** Most weights of an autoencoder of default size: a car scores a row in a few microseconds. */
const WEIGHTS_MAX = 5000;

/** A third more units than inputs, then a bottleneck of two thirds of them; less where that would be too much. */
export function hiddenUnits(
  width: number,
  { outerUnits, middleUnits }: HyperParameters,
): [number, number, number] {
  let outer = outerUnits > 0 ? outerUnits : Math.ceil((4 * width) / 3);
  const middle = () => (middleUnits > 0 ? middleUnits : Math.ceil(outer / 2));
  if (outerUnits === 0) while (outer > 4 && 2 * outer * (width + middle()) > WEIGHTS_MAX) outer--;
  return [outer, middle(), outer];
}
