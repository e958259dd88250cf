import { expect, test } from "vitest";
import { memberConfig } from "../../../src/export/triton/member-config.js";
import { warmupRequest } from "../../../src/export/triton/warm-up-requests.js";
import { float32, tensor } from "../../../src/std/tensor.js";

const MODEL = {
  name: "encode_prompt",
  inputs: [
    { name: "input_ids", datatype: "INT64", dims: [1, -1], summary: "" },
    { name: "pixel_values", datatype: "FP32", dims: [-1, 6], summary: "" },
  ],
  outputs: [{ name: "prompt_embeds", datatype: "FP32", dims: [1, -1, 8], summary: "" }],
  optimization: "full",
} as const;

test("what the backend reads only among the parameters stands there on a GPU, not with the accelerator", () => {
  const config = memberConfig(
    MODEL,
    { gpus: [0, 1], memoryLimits: new Map([["encode_prompt", 48_000_000_000]]) },
    undefined,
  );
  expect(config.parameters).toEqual({
    cudnn_conv_algo_search: { string_value: "1" },
    arena_extend_strategy: { string_value: "1" },
    gpu_mem_limit: { string_value: "48000000000" },
    "session.use_device_allocator_for_initializers": { string_value: "1" },
  });
  expect(config.optimization?.execution_accelerators?.gpu_execution_accelerator).toEqual([
    { name: "cuda", parameters: { cudnn_conv_use_max_workspace: "0" } },
  ]);
  expect(config.instance_group).toEqual([{ kind: "KIND_GPU", count: 1, gpus: [0, 1] }]);
});

test("a model of a CPU names one instance, and nothing of GPUs", () => {
  const config = memberConfig(MODEL, { gpus: undefined, memoryLimits: undefined }, undefined);
  expect(config.instance_group).toEqual([{ kind: "KIND_CPU", count: 1 }]);
  expect(config).not.toHaveProperty("parameters");
  expect(config).not.toHaveProperty("optimization");
});

test("weights that are widened once are not laid out for products, so that the numbers are those of weights that are not", () => {
  const config = memberConfig(
    { ...MODEL, optimization: "widened" },
    { gpus: undefined, memoryLimits: undefined },
    undefined,
  );
  expect(config.parameters).toEqual({ "session.disable_prepacking": { string_value: "1" } });
  expect(config).not.toHaveProperty("optimization");
});

test("a warm-up sends whole numbers as they are, since random ones are no tokens, and zeros for the rest", () => {
  const ids = tensor("int64", [1, 2], BigInt64Array.of(151644n, 7n));
  const { config, files } = warmupRequest(MODEL, ({ name }) => (name === "input_ids" ? ids : float32([4, 6])));
  expect(config.inputs).toEqual({
    input_ids: { data_type: "TYPE_INT64", dims: [1, 2], input_data_file: "input_ids" },
    pixel_values: { data_type: "TYPE_FP32", dims: [4, 6], zero_data: true },
  });
  expect([...new BigInt64Array(Uint8Array.from(files.get("input_ids")!).buffer)]).toEqual([151644n, 7n]);
});
