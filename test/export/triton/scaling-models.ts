// Two small models with weights in files, joined to an ensemble: what an exported repository is tried with, without networks.
import { writeFileSync } from "node:fs";
import { joined } from "../../../src/export/triton/ensembles.js";
import type { ExportedModel } from "../../../src/export/triton/exported-model.js";
import type { Repository } from "../../../src/export/triton/model-repository.js";
import { Graph } from "../../../src/graph/graph.js";

/** Bytes before the weight in its file, as the header of a model file. */
const OFFSET = 100;

/** Writes a file of one weight. */
export function writeWeight(path: string, value: number): void {
  const bytes = Buffer.alloc(OFFSET + 4);
  bytes.writeFloatLE(value, OFFSET);
  writeFileSync(path, bytes);
}

function scaling(name: string, file: string): ExportedModel {
  const graph = new Graph(name);
  const x = graph.input("x", "f32", [1, "n"]);
  const factor = graph.external("factor", { dtype: "f32", shape: [1], file, offset: OFFSET, length: 4 });
  graph.output("y", x.mul(factor));
  const spec = { datatype: "FP32", dims: [1, -1], summary: "Numbers." } as const;
  return {
    name,
    summary: "Multiplies.",
    inputs: [{ name: "x", ...spec }],
    outputs: [{ name: "y", ...spec }],
    graph,
    optimization: "none",
  };
}

/** A repository of the models `first` and `second`, which multiply by the weight of a file each, and the ensemble `both`, which does one after the other, and the first again. */
export function scalingRepository(files: { readonly first: string; readonly second: string }): Repository {
  const models = Object.entries(files).map(([name, file]) => scaling(name, file));
  const byName = new Map(models.map((model) => [model.name, model]));
  const steps = [
    { model: "first", inputs: { x: "number" }, outputs: { y: "once" } },
    { model: "second", inputs: { x: "once" }, outputs: { y: "twice" } },
    { model: "first", inputs: { x: "twice" }, outputs: { y: "thrice" } },
  ];
  return {
    models,
    ensembles: [joined("both", steps, byName)],
    placement: { gpus: undefined, memoryLimits: undefined },
    warmups: new Map(),
    facts: new Map(),
    files: new Map([["qedit.json", "{}\n"]]),
  };
}
