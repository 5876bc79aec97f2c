/** What the learning rate is multiplied by when this part of a training is done: 1 at first, a tenth in the end, along half a cosine. */
export function decay(done: number): number {
  return 0.1 + 0.45 * (1 + Math.cos(Math.PI * done));
}
