/**
 * Area under the ROC curve: the chance that a row with a fault has a higher score than one without, ties counting half
 * (Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other", 1947).
 * NaN without rows of both kinds. `faulty` has 1 for a row with a fault, 0 for one without.
 */
export function rocAuc(scores: ArrayLike<number>, faulty: ArrayLike<number>): number {
  const order = Uint32Array.from({ length: scores.length }, (_, row) => row).sort(
    (a, b) => scores[a]! - scores[b]!,
  );
  let [rankSum, positives] = [0, 0];
  for (let from = 0; from < order.length;) {
    let to = from + 1;
    while (to < order.length && scores[order[to]!] === scores[order[from]!]) to++;
    // Ranks from 1 on; equal scores have the mean of theirs.
    const rank = (from + to + 1) / 2;
    for (let at = from; at < to; at++)
      if (faulty[order[at]!] === 1) {
        rankSum += rank;
        positives++;
      }
    from = to;
  }
  const negatives = order.length - positives;
  return (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives);
}
