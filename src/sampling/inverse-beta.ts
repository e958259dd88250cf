// Quantiles of the symmetric beta distribution, for the schedule that is named after it.

/** Halvings of [0, 1/2] after which a double no longer changes. */
const HALVINGS = 1100;

/** The x in 0..1 with I_x(a, a) = probability, I being the regularised incomplete beta function. Exact to some units in the last place. */
export function symmetricBetaQuantile(probability: number, a: number): number {
  if (probability > 0.5) return 1 - symmetricBetaQuantile(1 - probability, a);
  if (probability <= 0 || probability === 0.5) return Math.max(probability, 0);
  // the two halves are alike, so that half the whole integral needs no gamma function
  const wanted = probability * 2 * integral(0.5, a);
  let low = 0;
  let high = 0.5;
  for (let i = 0; i < HALVINGS; i++) {
    const middle = 0.5 * (low + high);
    if (middle === low || middle === high) break;
    if (integral(middle, a) < wanted) low = middle;
    else high = middle;
  }
  return 0.5 * (low + high);
}

// ∫ t^(a−1) (1 − t)^(a−1) dt over 0..x, x ≤ 1/2: the binomial series of the second factor, integrated term by term.
function integral(x: number, a: number): number {
  let sum = 0;
  let coefficient = 1;
  for (let n = 0; ; n++) {
    const term = coefficient / (a + n);
    if (sum + term === sum) return sum * x ** a;
    sum += term;
    coefficient *= ((n + 1 - a) / (n + 1)) * x;
  }
}
