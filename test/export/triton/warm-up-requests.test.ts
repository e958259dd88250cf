import { expect, test } from "vitest";
import { modelTensors } from "../../../src/export/triton/tensor-specs.js";
import { editWarmups } from "../../../src/export/triton/warm-up-requests.js";
import { loadTokenizer } from "../../../src/text/tokenizer.js";
import { tinyEdit } from "../../support/edits.js";
import { editWidths } from "./edit-widths.js";

const SPECS = [...modelTensors(editWidths({ promptWidth: 40 })).values()];
const tokenizer = await loadTokenizer();
const { resolved } = await tinyEdit();

test.each([
  [undefined, 64],
  [[0], 1024],
] as const)("for GPUs %j every model is warmed up with tensors of its own, of pictures of %i pixels", (gpus, side) => {
  const warmups = editWarmups(SPECS, { ...resolved, images: 3, gpus }, tokenizer);
  for (const { name, inputs } of SPECS) {
    const { config, files } = warmups.get(name)!;
    expect(Object.keys(config.inputs)).toEqual(inputs.map((spec) => spec.name));
    for (const spec of inputs) {
      const { dims, data_type, ...data } = config.inputs[spec.name]!;
      expect(data_type).toBe(`TYPE_${spec.datatype}`);
      expect(dims).toHaveLength(spec.dims.length);
      expect(spec.dims.every((dim, axis) => dim === -1 || dim === dims[axis])).toBe(true);
      const bytes = { FP32: 4, INT64: 8, UINT8: 1 }[spec.datatype];
      const length = dims.reduce((product, dim) => product * dim, bytes);
      if ("input_data_file" in data) expect(files.get(data.input_data_file)).toHaveLength(length);
    }
  }
  const { inputs } = warmups.get("sample")!.config;
  expect(inputs["noise"]!.dims).toEqual([1, 16, side / 8, side / 8]);
  expect(inputs["reference_tokens"]!.dims).toEqual([1, 3 * (side / 16) ** 2, 64]);
  expect(warmups.get("encode_image")!.config.inputs["image"]!.dims).toEqual([side, side, 3]);
});
