// A division that Pillow does in integers wherever bytes are multiplied.

/** Pillow's MULDIV255: product / 255, rounded, of a product of two bytes. */
export function divideBy255(product: number): number {
  const sum = product + 128;
  return ((sum >> 8) + sum) >> 8;
}
