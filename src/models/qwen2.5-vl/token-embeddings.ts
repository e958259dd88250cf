// Token embeddings in a graph: rows of the table by token id, times their scale where they are stored in 8 bits.
import type { Weights } from "../../checkpoint/weights.js";
import { float8Numbers } from "../../graph/float8.js";
import { divided, gather } from "../../graph/indexing.js";
import type { Value } from "../../graph/value.js";
import { packedRows } from "../packed-linear.js";
import { rotatedGroups } from "../stored-weight.js";

/** Embeddings f32 [tokens, width] of token ids i64 [tokens]: the rows that readScaledRows reads. Ids are below the length of the table. */
export function tokenEmbeddings(ids: Value, w: Weights): Value {
  const table = w.at("model.embed_tokens");
  const group = table.rotated();
  const rows = table.scoped(() => scaledRows(ids, table));
  return group === undefined ? rows : rotatedGroups(rows, group);
}

function scaledRows(ids: Value, table: Weights): Value {
  const packed = table.packed();
  if (packed) return packedRows(ids, packed);
  const rows = storedRows(ids, table);
  const scale = table.scale();
  if (scale === undefined) return rows;
  const { value, grid } = scale;
  if (grid.per === "tensor") return rows.mul(value.reshape([1]));
  const [height, width] = table.shape("weight") as [number, number];
  const [tall, wide] = grid.per === "row" ? [1, width] : [grid.rows, grid.columns];
  const across = Math.ceil(width / wide);
  const scales = value.reshape([Math.ceil(height / tall), across]);
  return rows.mul(gather(scales, divided(ids, tall).quotient).spread(1, wide, width));
}

// Gather has no kernels for 8-bit floats: their bytes are looked up in a table of what they stand for.
function storedRows(ids: Value, table: Weights): Value {
  const float8 = table.float8("weight");
  if (float8 === undefined) return gather(table.get("weight"), ids).cast("f32");
  const values = float8Numbers(ids.graph, float8.dtype);
  const bytes = gather(float8.bytes(), ids);
  const width = Number(bytes.dim(1));
  const places = bytes.reshape([`${width}*${bytes.dim(0)}`]).cast("i32");
  return gather(values, places).reshape([bytes.dim(0), width]);
}
