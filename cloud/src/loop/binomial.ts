/** P(X ≥ hits) of a binomial with `n` tries of chance `p`: how surprising so many are. 1 for no hits. */
export function binomialTail(hits: number, n: number, p: number): number {
  if (hits <= 0) return 1;
  let logTerm = n * Math.log1p(-p);
  let sum = 0;
  for (let k = 0; k <= n; k++) {
    if (k >= hits) sum += Math.exp(logTerm);
    logTerm += Math.log((n - k) / (k + 1)) + Math.log(p) - Math.log1p(-p);
  }
  return Math.min(1, sum);
}
