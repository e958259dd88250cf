// The tensors of the exported models: what Triton takes, and what fits together.
import { expect, test } from "vitest";
import { modelTensors } from "../../../src/export/triton/tensor-specs.js";
import { editWidths } from "./edit-widths.js";

const models = modelTensors(editWidths());
const all = [...models.values()];

test("no tensor has rank 0, and none of a model has another one's name", () => {
  for (const { inputs, outputs } of all) {
    const tensors = [...inputs, ...outputs];
    expect(tensors.filter(({ dims }) => dims.length === 0)).toEqual([]);
    expect(new Set(tensors.map(({ name }) => name)).size).toBe(tensors.length);
  }
});

test("each model that packs references gives both tensors that the samplers take", () => {
  for (let count = 1; count <= 3; count++) {
    const { inputs, outputs } = models.get(`join_${count}`)!;
    expect(inputs).toHaveLength(count);
    for (const sampler of ["sample", "sample_cfg"] as const)
      for (const { name, datatype, dims } of outputs) {
        const taken = models.get(sampler)!.inputs.find((each) => each.name === name)!;
        expect([taken.datatype, taken.dims.length]).toEqual([datatype, dims.length]);
        expect(taken.dims.every((dim, axis) => dim === -1 || dim === dims[axis])).toBe(true);
      }
  }
});
