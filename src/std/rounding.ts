// Rounding as the reference implementations do it.

/** To the nearest whole number, halves to the even one: Python's round(), NumPy's and torch's. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const fraction = value - below;
  if (fraction !== 0.5) return fraction < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}
