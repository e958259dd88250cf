import { expect, test } from "vitest";
import { configText, type ModelConfig, parseConfig } from "../../../src/export/triton/model-config.js";

const CONFIG: ModelConfig = {
  name: 'a "name" with \\ and\nan é',
  backend: "onnxruntime",
  max_batch_size: 0,
  input: [{ name: "image", data_type: "TYPE_UINT8", dims: [-1, -1, 3] }],
  output: [{ name: "latent", data_type: "TYPE_FP32", dims: [1, 16, -1, -1] }],
  instance_group: [{ kind: "KIND_GPU", count: 1, gpus: [0, 1] }],
  parameters: { gpu_mem_limit: { string_value: "48000000000" } },
};

test("a config is read as it was written, whatever stands in its texts", () => {
  expect(parseConfig(configText(CONFIG))).toMatchObject(CONFIG);
});

test("a batch size of 0 is written, since a server would choose one that is left out", () => {
  expect(configText(CONFIG)).toMatch(/^max_batch_size: 0$/m);
});

test("texts are one line of ASCII each", () => {
  expect(configText(CONFIG).split("\n")[0]).toBe('name: "a \\"name\\" with \\\\ and\\nan \\303\\251"');
});

test("maps are entries of key and value, as protobuf's text format has them", () => {
  expect(configText(CONFIG)).toContain(
    'parameters {\n  key: "gpu_mem_limit"\n  value {\n    string_value: "48000000000"\n  }\n}',
  );
});

test("a field that no export writes is refused", () => {
  expect(() => parseConfig('name: "a" sequence_batching { }')).toThrow();
});
