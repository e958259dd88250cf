import { mkdirSync, mkdtempSync, readFileSync, renameSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { parseDevice } from "../../../src/engine/providers.js";
import { pairedEngine } from "../../../src/engine/sessions/paired.js";
import { runEnsemble } from "../../../src/export/triton/ensemble-interpreter.js";
import { joined } from "../../../src/export/triton/ensembles.js";
import type { TensorSpec } from "../../../src/export/triton/exported-model.js";
import { parseConfig } from "../../../src/export/triton/model-config.js";
import { writeRepository } from "../../../src/export/triton/model-repository.js";
import { float32 } from "../../../src/std/tensor.js";
import { temporaryFolder } from "../../support/folder.js";
import { scalingRepository, writeWeight } from "./scaling-models.js";

const all = temporaryFolder();
const engine = pairedEngine(parseDevice("cpu", 1));
afterAll(() => engine.dispose());
const signal = new AbortController().signal;

async function written(prepare: (store: string) => Parameters<typeof scalingRepository>[0]) {
  const folder = mkdtempSync(all.at("test-"));
  const [store, repository] = [join(folder, "store"), join(folder, "repository")];
  mkdirSync(store);
  mkdirSync(repository);
  const files = prepare(store);
  const placed = await writeRepository(repository, scalingRepository(files), { emit: () => {}, signal });
  return { store, repository, placed };
}

const twoFiles = (store: string) => {
  writeWeight(join(store, "two.safetensors"), 2);
  writeWeight(join(store, "ten.safetensors"), 10);
  return { first: join(store, "two.safetensors"), second: join(store, "ten.safetensors") };
};
const number = float32([1, 2], Float32Array.of(1, 3));

test("an ensemble runs as it was written, its weights beside the graphs", async () => {
  const { repository, store } = await written(twoFiles);
  // Nothing leads out of the folder: the store may go.
  renameSync(store, `${store}-gone`);
  const tensors = await runEnsemble("both", { number }, { folder: repository, engine, signal });
  expect([...tensors["thrice"]!.data]).toEqual([40, 120]);
});

test("weights are hard links to the real files, also of a store of symbolic links", async () => {
  const { repository, store, placed } = await written((folder) => {
    const { first, second } = twoFiles(folder);
    symlinkSync(first, join(folder, "link.safetensors"));
    return { first: join(folder, "link.safetensors"), second };
  });
  expect(statSync(join(repository, "first/1/link.safetensors")).ino).toBe(statSync(join(store, "two.safetensors")).ino);
  expect(placed).toEqual({ linked: 208, copied: 0 });
});

test("a file that several models share is counted once", async () => {
  const { placed, repository } = await written((store) => {
    const { first } = twoFiles(store);
    return { first, second: first };
  });
  expect(placed.linked).toBe(104);
  expect(statSync(join(repository, "second/1/two.safetensors")).nlink).toBe(3);
});

test("the configs are those that the server wants", async () => {
  const { repository } = await written(twoFiles);
  const config = (name: string) => parseConfig(readFileSync(join(repository, name, "config.pbtxt"), "utf8"));
  expect(config("first")).toMatchObject({
    name: "first",
    backend: "onnxruntime",
    max_batch_size: 0,
    instance_group: [{ kind: "KIND_CPU", count: 1 }],
    optimization: { graph: { level: 2 } },
    dynamic_batching: { default_queue_policy: { max_queue_size: 16, default_timeout_microseconds: 600_000_000 } },
  });
  expect(config("both")).toMatchObject({
    platform: "ensemble",
    input: [{ name: "number", data_type: "TYPE_FP32", dims: [1, -1] }],
    output: [{ name: "thrice" }],
  });
  expect(config("both").instance_group).toEqual([]);
});

test("the folder of an ensemble's version holds a file, so that copies keep it", async () => {
  const { repository } = await written(twoFiles);
  expect(readFileSync(join(repository, "both/1/README"), "utf8")).toContain("wants this folder");
});

test.each([
  ["a missing tensor", {}, /number of both is missing/],
  ["a tensor of another rank", { number: float32([2]) }, /float32 \[2\], wanted float32 \[1, -1\]/],
])("%s is refused as the server refuses it", async (_what, inputs, message) => {
  const { repository } = await written(twoFiles);
  await expect(runEnsemble("both", inputs, { folder: repository, engine, signal })).rejects.toThrow(message);
});

const spec = (name: string, datatype: TensorSpec["datatype"], dims: readonly number[]): TensorSpec => ({
  ...{ name, datatype, dims },
  summary: "",
});

test("models whose tensors do not fit are not joined", () => {
  const models = new Map([
    ["a", { inputs: [spec("x", "FP32", [1])], outputs: [spec("y", "FP32", [1, -1])] }],
    ["b", { inputs: [spec("y", "INT64", [1, -1])], outputs: [spec("z", "FP32", [1])] }],
  ]);
  expect(() => joined("ab", [{ model: "a" }, { model: "b" }], models)).toThrow(
    /y of ab for b is FP32 \[1, -1\], wanted INT64/,
  );
});

test("an ensemble has one output: what a later step reads is none", () => {
  const models = new Map([
    ["a", { inputs: [spec("x", "FP32", [1])], outputs: [spec("y", "FP32", [1]), spec("other", "FP32", [1])] }],
    ["b", { inputs: [spec("y", "FP32", [1])], outputs: [spec("z", "FP32", [1])] }],
  ]);
  expect(() => joined("ab", [{ model: "a" }, { model: "b" }], models)).toThrow(/2 outputs/);
});
