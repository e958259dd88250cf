// Models without weights for tests of engines.
import { type Model, modelOf } from "../../src/engine/sessions/engine.js";
import { Graph } from "../../src/graph/graph.js";
import { float32, type Tensors } from "../../src/std/tensor.js";

const affine = new Graph("affine");
affine.output("y", affine.input("x", "f32", ["rows", 3]).mul(2).add(1));
const AFFINE = await modelOf(affine, "none");

/** `y = 2x + 1` over x [rows, 3], rows being free. */
export function affineModel(): Model {
  return AFFINE;
}

/** A model of successive matrix products, which take about 10 ms each on one core, and its feeds. */
export async function longModel(products: number): Promise<{ readonly model: Model; readonly feeds: Tensors }> {
  const side = 640;
  const graph = new Graph("long");
  const x = graph.input("x", "f32", [side, side]);
  let y = x;
  for (let i = 0; i < products; i++) y = y.matmul(x).mul(0.01);
  graph.output("y", y);
  const values = Float32Array.from({ length: side * side }, (_, index) => ((index * 7) % 11) / 50);
  return { model: await modelOf(graph, "none"), feeds: { x: float32([side, side], values) } };
}
