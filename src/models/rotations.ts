// Adapters that turn a weight by orthogonal matrices: blocks along the diagonal of R, beside the product and never merged into it.
// Formulas: PEFT 0.21 tuners/{oft,boft}/layer.py; LyCORIS 4.1 modules/{diag_oft,boft}.py; strengths by ComfyUI comfy/weight_adapter/{oft,boft}.py.
import { isRotationKind, type RotationKind } from "../checkpoint/lora/module-adapter.js";
import { sideOf } from "../checkpoint/lora/rotation-shapes.js";
import type { AdapterValues } from "../checkpoint/weights.js";
import { gather } from "../graph/indexing.js";
import { inverse } from "../graph/operators.js";
import { multiplyDims } from "../graph/types.js";
import type { Value } from "../graph/value.js";

/** An adapter that turns the weight of its module. */
type Rotation = AdapterValues & { readonly kind: RotationKind };

/** Whether an adapter turns the weight of its module. */
export function isRotation(adapter: AdapterValues): adapter is Rotation {
  return isRotationKind(adapter.kind);
}

/** What LyCORIS adds to the length of Q before it is divided by. */
const LENGTH_FLOOR = 1e-8;

/** The product of x [tokens, in] with a weight that is turned; `product` is that of any x with the weight as it is: [tokens, out]. */
export function rotated(x: Value, rotation: Rotation, product: (x: Value) => Value): Value {
  return ROTATIONS[rotation.kind](x, rotation, product);
}

const ROTATIONS: Readonly<Record<RotationKind, typeof rotated>> = {
  oft: byOutputs,
  boft: byStages,
  inputOft: byInputs,
  inputBoft: byInputsAndScale,
};

// y + s · (g ∘ (y + s · (R - I)ᵀ·y) - y): ComfyUI scales both the rotation and what it changes; without g that is y + s² · (R - I)ᵀ·y.
function byOutputs(x: Value, rotation: Rotation, product: (x: Value) => Value): Value {
  const y = product(x);
  const turned = y.add(byBlocks(y, difference(lycorisBlocks(rotation, "oft_blocks"))).mul(strengthOf(rotation, y)));
  return towards(y, rescaled(turned, rotation.parts.rescale), rotation);
}

// As with one stage, for outputs that are near in the first stage and further apart in each of the next ones.
function byStages(x: Value, rotation: Rotation, product: (x: Value) => Value): Value {
  const y = product(x);
  const stored = rotation.parts.boft_blocks!;
  const [stages, count, side] = stored.shape.map(Number) as [number, number, number, number];
  const all = difference(lycorisBlocks(rotation, "boft_blocks")).reshape([stages, count, side, side]);
  let turned = y;
  for (let stage = 0; stage < stages; stage += 1) {
    const blocks = all.slice(0, stage, stage + 1).reshape([count, side, side]);
    const half = (2 ** stage * side) / 2;
    const grouped = interleaved(turned, [2, half]);
    const changed = grouped.add(byBlocks(grouped, blocks.transpose([0, 2, 1])).mul(strengthOf(rotation, y)));
    turned = interleaved(changed, [half, 2]);
  }
  return towards(y, rescaled(turned, rotation.parts.rescale), rotation);
}

// The weight times x + s · (x·R - x): PEFT has no strengths of rotations.
function byInputs(x: Value, rotation: Rotation, product: (x: Value) => Value): Value {
  return product(x.add(byBlocks(x, difference(triangleBlocks(rotation))).mul(strengthOf(rotation, x))));
}

// y + s · (g ∘ W·(x·R) - y)
function byInputsAndScale(x: Value, rotation: Rotation, product: (x: Value) => Value): Value {
  const stored = rotation.parts.boft_R!;
  const [, count, side] = stored.shape.map(Number) as [number, number, number, number];
  const numbers = stored.cast("f32").reshape([count, side, side]);
  const skew = numbers.sub(numbers.transpose([0, 2, 1])).mul(0.5);
  const turned = product(x.add(byBlocks(x, difference(cayley(skew.mul(-1))))));
  return towards(product(x), rescaled(turned, rotation.parts.boft_s), rotation);
}

function towards(y: Value, changed: Value, rotation: Rotation): Value {
  return y.add(changed.sub(y).mul(strengthOf(rotation, y)));
}

function rescaled(y: Value, scale: Value | undefined): Value {
  return scale ? y.mul(scale.reshape([Number(scale.dim(0))]).cast(y.dtype)) : y;
}

function strengthOf({ strength }: Rotation, { dtype }: Value): Value {
  return strength.cast(dtype);
}

/** Blocks of R, f32 [n, b, b]. */
function lycorisBlocks({ parts, rotation }: Rotation, name: "oft_blocks" | "boft_blocks"): Value {
  const stored = parts[name]!;
  const side = Number(stored.dim(-1));
  const count = stored.shape.slice(0, -2).reduce<number>((product, dim) => product * Number(dim), 1);
  const numbers = stored.cast("f32").reshape([count, side, side]);
  const skew = numbers.sub(numbers.transpose([0, 2, 1]));
  const limit = rotation?.limit;
  if (limit === undefined) return cayley(skew);
  const length = skew
    .mul(skew)
    .reshape([1, count * side * side])
    .sumOver(1)
    .sqrt()
    .add(LENGTH_FLOOR);
  return cayley(skew.mul(limit).div(length.max(limit)));
}

// PEFT stores what is above the diagonals, row by row.
function triangleBlocks({ parts, rotation, strength: { graph } }: Rotation): Value {
  const stored = parts.oft_R!;
  const [count, numbers] = stored.shape.map(Number) as [number, number];
  const side = sideOf(numbers);
  const places = graph.once(`places of triangles of ${side}`, () =>
    graph.constant(
      "i64",
      [side * side],
      square(side, (low, high) => low * side - (low * (low + 1)) / 2 + high - low - 1),
    ),
  );
  const signs = graph.once(`signs of triangles of ${side}`, () =>
    graph.constant(
      "f32",
      [side * side],
      square(side, (low, high, isAbove) => (low === high ? 0 : isAbove ? 1 : -1)),
    ),
  );
  const skew = gather(stored.cast("f32"), places, 1).mul(signs).reshape([count, side, side]);
  const limited =
    rotation?.blockLimit === undefined ? skew : withBlockLimit(skew, rotation.blockLimit / Math.sqrt(count));
  return rotation?.terms === undefined ? cayley(limited.mul(-1)) : series(limited, rotation.terms);
}

// Numbers of a matrix by their row and column, the smaller one first; 0 on the diagonal.
function square(side: number, number: (low: number, high: number, isAbove: boolean) => number): number[] {
  return Array.from({ length: side * side }, (_, at) => {
    const [row, column] = [Math.floor(at / side), at % side];
    return row === column ? 0 : number(Math.min(row, column), Math.max(row, column), row < column);
  });
}

function withBlockLimit(skew: Value, limit: number): Value {
  const [count, side] = [Number(skew.dim(0)), Number(skew.dim(1))];
  const lengths = skew
    .mul(skew)
    .reshape([count, side * side])
    .sumOver(1)
    .sqrt();
  return skew.mul(limit).div(lengths.max(limit).reshape([count, 1, 1]));
}

/** Cayley's transform of skew matrices: (I + Q)·(I - Q)⁻¹, orthogonal. */
function cayley(skew: Value): Value {
  const unit = unitOf(skew);
  return unit.add(skew).matmul(inverse(unit.sub(skew)));
}

// I + 2·Q + 2·Q² + … + Q to the last power, as PEFT sums it: two or more powers before the last one are counted twice.
function series(skew: Value, terms: number): Value {
  let [sum, power] = [unitOf(skew), skew];
  if (terms > 1) sum = sum.add(skew.mul(2));
  if (terms < 3) return sum;
  for (let exponent = 2; exponent < Math.max(terms - 1, 3); exponent += 1) {
    power = power.matmul(skew);
    sum = sum.add(power.mul(2));
  }
  return sum.add(power.matmul(skew));
}

function difference(blocks: Value): Value {
  return blocks.sub(unitOf(blocks));
}

function unitOf({ graph, shape }: Value): Value {
  const side = Number(shape[1]);
  return graph.once(`unit matrix of ${side}`, () =>
    graph.constant(
      "f32",
      [1, side, side],
      Array.from({ length: side * side }, (_, at) => (at % (side + 1) === 0 ? 1 : 0)),
    ),
  );
}

// x [tokens, n · b] with each block of its columns multiplied by a matrix of blocks [n, b, b], or all by one [1, b, b].
function byBlocks(x: Value, blocks: Value): Value {
  const [count, side] = [Number(blocks.dim(0)), Number(blocks.dim(1))];
  const [tokens, width] = [x.dim(0), Number(x.dim(1))];
  const matrices = blocks.cast(x.dtype);
  if (count === 1)
    return x
      .reshape([multiplyDims(tokens, width / side), side])
      .matmul(matrices.reshape([side, side]))
      .reshape([tokens, width]);
  return x
    .reshape([tokens, count, side])
    .transpose([1, 0, 2])
    .matmul(matrices)
    .transpose([1, 0, 2])
    .reshape([tokens, width]);
}

// Columns in groups of a · b, of which b by a become a by b.
function interleaved(x: Value, [rows, columns]: readonly [number, number]): Value {
  const [tokens, width] = [x.dim(0), Number(x.dim(1))];
  const groups = width / rows / columns;
  return x.reshape([tokens, groups, rows, columns]).transpose([0, 1, 3, 2]).reshape([tokens, width]);
}
