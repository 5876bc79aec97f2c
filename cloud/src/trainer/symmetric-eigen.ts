import type { Turns } from './turns.ts';

/** It converges quadratically: six to ten sweeps are usual, whatever the size. */
const SWEEPS_MAX = 50;

export interface Eigen {
  /** The greatest first. */
  values: Float64Array;
  /** Row-major, one vector of length 1 per row, in the order of the values. */
  vectors: Float64Array;
}

/**
 * Eigenvalues and eigenvectors of a symmetric matrix (row-major, size × size), by rotations that make one pair of elements
 * zero at a time: Jacobi's method in cyclic order (Golub and Van Loan, "Matrix computations", 8.5). Square roots only, so the
 * same matrix gives the same bits everywhere.
 */
export async function symmetricEigen(matrix: Float64Array, size: number, turns: Turns): Promise<Eigen> {
  const a = matrix.slice();
  const vectors = new Float64Array(size * size);
  for (let i = 0; i < size; i++) vectors[i * size + i] = 1;
  for (let sweep = 0; sweep < SWEEPS_MAX; sweep++) {
    let [off, all] = [0, 0];
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) {
        const square = a[i * size + j]! ** 2;
        all += square;
        if (i !== j) off += square;
      }
    if (off <= Number.EPSILON ** 2 * all) break;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) rotate(a, vectors, size, p, q);
      if (turns.due) await turns.give();
    }
  }
  const order = [...new Array<number>(size).keys()].sort((i, j) => a[j * size + j]! - a[i * size + i]!);
  const sorted = new Float64Array(size * size);
  for (const [to, from] of order.entries())
    sorted.set(vectors.subarray(from * size, (from + 1) * size), to * size);
  return { values: Float64Array.from(order, (i) => a[i * size + i]!), vectors: sorted };
}

/** Turns the axes p and q so that the element between them becomes zero. */
function rotate(a: Float64Array, vectors: Float64Array, size: number, p: number, q: number): void {
  const between = a[p * size + q]!;
  if (between === 0) return;
  const ratio = (a[q * size + q]! - a[p * size + p]!) / (2 * between);
  const tangent = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.sqrt(ratio * ratio + 1));
  const cosine = 1 / Math.sqrt(tangent * tangent + 1);
  const sine = tangent * cosine;
  for (let k = 0; k < size; k++) {
    const [kp, kq] = [a[k * size + p]!, a[k * size + q]!];
    a[k * size + p] = cosine * kp - sine * kq;
    a[k * size + q] = sine * kp + cosine * kq;
  }
  for (let k = 0; k < size; k++) {
    const [pk, qk] = [a[p * size + k]!, a[q * size + k]!];
    a[p * size + k] = cosine * pk - sine * qk;
    a[q * size + k] = sine * pk + cosine * qk;
    const [vp, vq] = [vectors[p * size + k]!, vectors[q * size + k]!];
    vectors[p * size + k] = cosine * vp - sine * vq;
    vectors[q * size + k] = sine * vp + cosine * vq;
  }
}
