// Rotary tables of tokens with places on several axes.
import { float32, type Tensor } from "../std/tensor.js";

/** Base of the angles. */
export const ROPE_THETA = 10000;

/** Cosines and sines [1, tokens, head/2]. */
export interface RopeTables {
  readonly cos: Tensor<"float32">;
  readonly sin: Tensor<"float32">;
}

/** The tables of tokens at these places, one number for each of `ropeAxes`, which say how many of the head's dimensions an axis rotates; angles in float64. */
export function axisRotations(
  positions: readonly (readonly number[])[],
  { ropeAxes, headDim }: { readonly ropeAxes: readonly number[]; readonly headDim: number },
): RopeTables {
  const frequencies = ropeAxes.map((dim) => Array.from({ length: dim / 2 }, (_, k) => ROPE_THETA ** ((-2 * k) / dim)));
  const shape = [1, positions.length, headDim / 2];
  const [cos, sin] = [float32(shape), float32(shape)];
  let at = 0;
  for (const position of positions) {
    frequencies.forEach((axis, index) => {
      for (const frequency of axis) {
        const angle = position[index]! * frequency;
        cos.data[at] = Math.cos(angle);
        sin.data[at] = Math.sin(angle);
        at += 1;
      }
    });
  }
  return { cos, sin };
}
