// The shapes of the parts of rotations: blocks that lie along the diagonal of a matrix.
import type { PartName } from "./lora-layouts.js";

/** The blocks of rotations. */
export const ROTATION_PARTS: readonly PartName[] = ["oft_blocks", "boft_blocks", "oft_R", "boft_R"];

/** Sides of blocks above this are of no adapter: an inverse takes the cube of it. */
const MAX_SIDE = 4096;

/** What a part of a rotation should be for a weight [out, in]; undefined where it is, and for other parts. */
export function rotationShape(
  part: PartName,
  shape: readonly number[],
  { out, input }: { out: number; input: number },
): string | undefined {
  switch (part) {
    case "oft_blocks":
      return shape.length === 3 && areBlocks(shape, out) ? undefined : `[n, b, b] with n · b = ${out}`;
    case "boft_blocks":
      return shape.length === 4 && areBlocks(shape.slice(1), out) && areStages(shape, out)
        ? undefined
        : `[stages, n, b, b] with n · b = ${out} and an even b, in whole groups at every stage`;
    case "oft_R":
      return shape.length === 2 && areTriangles(shape, input)
        ? undefined
        : `[n, b · (b - 1) / 2] with n · b = ${input}, or n = 1 for all blocks`;
    case "boft_R":
      return shape.length === 4 && shape[0] === 1 && areBlocks(shape.slice(1), input)
        ? undefined
        : `[1, n, b, b] with n · b = ${input} (BOFT without butterfly factors)`;
    default:
      return undefined;
  }
}

/** The side of a block whose numbers above the diagonal are so many; not whole when there is none. */
export function sideOf(numbers: number): number {
  return (1 + Math.sqrt(1 + 8 * numbers)) / 2;
}

function areBlocks(shape: readonly number[], width: number): boolean {
  const [count, rows, columns] = shape as [number, number, number];
  return rows === columns && rows > 0 && rows <= MAX_SIDE && count * rows === width;
}

// Stage i takes groups of 2^i · b outputs apart and together again.
function areStages([stages, , side]: readonly number[], width: number): boolean {
  return stages! > 0 && side! % 2 === 0 && width % (2 ** (stages! - 1) * side!) === 0;
}

function areTriangles([count, numbers]: readonly number[], width: number): boolean {
  const side = sideOf(numbers!);
  return (
    Number.isInteger(side) &&
    side > 1 &&
    side <= MAX_SIDE &&
    width % side === 0 &&
    (count === 1 || count! * side === width)
  );
}
