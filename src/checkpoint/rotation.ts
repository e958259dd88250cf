// ConvRot (https://arxiv.org/abs/2512.03673), as comfy-kitchen has it (comfy_kitchen/tensor/int8_utils.py, 0.2.40): groups of a weight's columns are rotated by a
// regular Hadamard matrix before they are rounded, which spreads outliers over the group. The layer's input is rotated by the same matrix.

/** The block that larger matrices are Kronecker powers of: symmetric, and each row has the same sum. */
const FOUR = [
  [1, 1, 1, -1],
  [1, 1, -1, 1],
  [1, -1, 1, 1],
  [-1, 1, 1, 1],
] as const;

/** ComfyUI's groups have 256 columns. The matrix is part of a graph: its size is the square of the group's. */
const LARGEST_GROUP = 1024;

/** Whether there is a rotation of groups of so many columns: a power of 4. */
export function isRotation(group: number): boolean {
  return group >= 4 && group <= LARGEST_GROUP && Number.isInteger(Math.log2(group) / 2);
}

/** The rotation of a group [group, group], row-major: symmetric and orthogonal, so that it undoes itself. */
export function rotation(group: number): Float32Array<ArrayBuffer> {
  if (!isRotation(group)) throw new Error(`internal: no rotation of ${group} columns`);
  const norm = 1 / Math.sqrt(group);
  return Float32Array.from({ length: group * group }, (_, at) => {
    let [row, column, sign] = [Math.floor(at / group), at % group, 1];
    for (let size = group; size > 1; size /= 4) {
      sign *= FOUR[row % 4]![column % 4]!;
      [row, column] = [Math.floor(row / 4), Math.floor(column / 4)];
    }
    return sign * norm;
  });
}

/** Rows with each group of their columns rotated, which undoes a rotation too. The length is a multiple of the group. */
export function rotated(rows: Float32Array, group: number): Float32Array<ArrayBuffer> {
  const out = Float32Array.from(rows);
  // One factor after the other: the Kronecker product in group · log4(group) steps, in float32 as a product would round.
  for (let stride = 1; stride < group; stride *= 4) {
    for (let base = 0; base < out.length; base += 4 * stride) {
      for (let at = base; at < base + stride; at += 1) {
        const values = [out[at]!, out[at + stride]!, out[at + 2 * stride]!, out[at + 3 * stride]!];
        for (const [index, signs] of FOUR.entries())
          out[at + index * stride] =
            (signs[0] * values[0]! + signs[1] * values[1]! + signs[2] * values[2]! + signs[3] * values[3]!) / 2;
      }
    }
  }
  return out;
}
