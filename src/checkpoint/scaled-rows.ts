// Rows of a weight that is looked up and not multiplied, such as embeddings, times their scale.
import { QeditError } from "../std/errors.js";
import type { Checkpoint } from "./checkpoint.js";
import { readRows, readTensor } from "./read-tensor.js";
import { rotated } from "./rotation.js";
import { scaleGrid, scaleNameOf } from "./weight-scales.js";

/**
 * Rows of `<module>.weight` [n, width], in the order asked for, times the scale beside it if there is one: [rows.length, width].
 * Throws QEDIT_E_CHECKPOINT when there is no such weight or its scale does not fit, QEDIT_E_IO when the file cannot be read.
 */
export async function readScaledRows(
  { file, tensors }: Checkpoint,
  module: string,
  rows: readonly number[],
): Promise<Float32Array> {
  const weight = tensors.get(`${module}.weight`);
  if (weight === undefined)
    throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot find "${module}.weight" in ${file}`, {
      hint: "The file may be of another model: `qedit inspect` says which",
    });
  const values = await readRows(weight, rows);
  const scale = tensors.get(scaleNameOf(tensors, `${module}.weight`) ?? "");
  if (scale === undefined) return weight.rotated === undefined ? values : rotated(values, weight.rotated);
  const grid = scaleGrid(scale, weight);
  if (grid === undefined)
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use "${module}.weight" in ${file}: its scale [${scale.shape.join(", ")}] does not fit its shape [${weight.shape.join(", ")}]`,
    );
  const [scales, width] = [await readTensor(scale), weight.shape[1]!];
  const [tall, wide] = {
    tensor: [weight.shape[0]!, width] as const,
    row: [1, width] as const,
    block: grid.per === "block" ? ([grid.rows, grid.columns] as const) : ([1, 1] as const),
  }[grid.per];
  const across = Math.ceil(width / wide);
  const scaled = values.map((value, at) => {
    const [row, column] = [rows[Math.floor(at / width)]!, at % width];
    return value * scales[Math.floor(row / tall) * across + Math.floor(column / wide)]!;
  });
  return weight.rotated === undefined ? scaled : rotated(scaled, weight.rotated);
}
