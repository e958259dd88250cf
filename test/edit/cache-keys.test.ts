// Results of earlier runs: found again for the same edit, and never for another one.
import { copyFileSync, mkdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { cacheEntries, openCache } from "../../src/artifacts/artifact-cache.js";
import { identityOf } from "../../src/checkpoint/open.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { openService } from "../../src/edit/service/service.js";
import { type TinyEdit, tinyEdit } from "../support/edits.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";

const folder = temporaryFolder();
beforeAll(() => void vi.stubEnv("QEDIT_HOME", folder.at("home")));
afterAll(() => void vi.unstubAllEnvs());

const SMALL = { megapixels: 0.003, steps: 1 };

// The stages whose results were found, of an edit after others with the same cache.
async function found(name: string, edits: readonly TinyEdit[]): Promise<string[]> {
  let hits: string[] = [];
  const service = await openService({
    ...{ device: "cpu", threads: 1, signal: new AbortController().signal },
    cache: openCache(folder.at(name), 2 ** 30),
    emit: (event) => {
      if (event.kind === "cache" && event.action === "hit") hits.push(event.stage);
    },
  });
  for (const edit of edits) {
    hits = [];
    const { outcome } = service.submit(await tinyEdit(edit));
    expect(await outcome).toMatchObject({ state: "done" });
  }
  await service.close();
  return hits.sort();
}

test("the same edit finds everything again", async () => {
  const edit = { settings: SMALL };
  expect(await found("same", [edit, edit])).toEqual(["encode-image", "encode-prompt", "sample"]);
});

test.each([
  ["seed", { seed: "43" }],
  ["number of steps", { steps: 2 }],
  ["shift", { shift: 5 }],
  ["sampler", { sampler: "heun", steps: 2 }],
])("another %s is sampled anew", async (name, changed) => {
  const before = { ...SMALL, steps: "sampler" in changed ? 2 : 1 };
  expect(await found(name, [{ settings: before }, { settings: { ...before, ...changed } }])).toEqual([
    "encode-image",
    "encode-prompt",
  ]);
});

test("another prompt is encoded anew", async () => {
  expect(await found("prompt", [{ settings: SMALL }, { settings: { ...SMALL, prompt: "make it summer" } }])).toEqual([
    "encode-image",
  ]);
});

test("a LoRA, and another one under the same name, are sampled anew", async () => {
  const path = folder.at("style.safetensors");
  const withLora = (name: string): TinyEdit => {
    copyFileSync(fixture(`tiny/loras/${name}.safetensors`), path);
    return { settings: SMALL, loras: [{ path, strength: 1 }] };
  };
  const encoded = ["encode-image", "encode-prompt"];
  expect(await found("lora", [{ settings: SMALL }, withLora("published")])).toEqual(encoded);
  expect(await found("lora", [withLora("second")])).toEqual(encoded);
});

test("a LoRA whose configuration beside it has another alpha is sampled anew", async () => {
  mkdirSync(folder.at("peft"));
  copyFileSync(fixture("tiny/loras/no-alpha.safetensors"), folder.at("peft/adapter_model.safetensors"));
  const withAlpha = (alpha: number): TinyEdit => {
    writeFileSync(
      folder.at("peft/adapter_config.json"),
      JSON.stringify({ peft_type: "LORA", lora_alpha: alpha, r: 2 }),
    );
    return { settings: SMALL, loras: [{ path: folder.at("peft"), strength: 1 }] };
  };
  const encoded = ["encode-image", "encode-prompt"];
  await found("alpha", [withAlpha(2)]);
  expect(await found("alpha", [withAlpha(6)])).toEqual(encoded);
  expect(await found("alpha", [withAlpha(2)])).toEqual([...encoded, "sample"]);
});

// A file of weights at a path, with one value turned that the identity does not sample.
function changeBetweenSamples(path: string): Buffer {
  const bytes = readFileSync(path);
  const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
  // 256 blocks of 4096 bytes are sampled: between the first and the second of them.
  const step = Math.floor((bytes.length - dataStart - 4096) / 255);
  for (let at = dataStart + 4096; at < dataStart + step - 4; at += 4) bytes[at + 3]! ^= 0x80;
  return bytes;
}

describe("weights of one identity and another content", () => {
  const path = folder.at("text-encoder.safetensors");
  const edit: TinyEdit = { settings: SMALL, files: { textEncoder: path } };
  test.each([
    ["in another file", (bytes: Buffer) => (writeFileSync(`${path}.new`, bytes), renameSync(`${path}.new`, path))],
    ["written in place with the time of before", writeWithTime],
  ])("%s are computed with anew", async (name, write) => {
    copyFileSync(fixture("tiny/text-encoder.safetensors"), path);
    await found(name, [edit]);
    expect(await found(name, [edit])).toEqual(["encode-image", "encode-prompt", "sample"]);
    const identity = await identityOf(path);
    write(changeBetweenSamples(path));
    expect(await identityOf(path)).toBe(identity);
    expect(await found(name, [edit])).toEqual(["encode-image"]);
  });

  function writeWithTime(bytes: Buffer): void {
    const { atime, mtime } = statSync(path);
    writeFileSync(path, bytes);
    utimesSync(path, atime, mtime);
  }
});

test("a file that the identity reads whole is found again where it was copied and touched", async () => {
  const at = (name: string): TinyEdit => {
    const path = folder.at(`${name}/transformer.safetensors`);
    mkdirSync(folder.at(name));
    copyFileSync(fixture("tiny/transformer.safetensors"), path);
    utimesSync(path, name.length, name.length);
    return { settings: SMALL, files: { transformer: path } };
  };
  await found("copied", [at("one")]);
  expect(await found("copied", [at("another")])).toEqual(["encode-image", "encode-prompt", "sample"]);
});

test("an index that takes a tensor from another of the same files is sampled anew", async () => {
  const original = await readSafetensors(fixture("tiny/transformer.safetensors"));
  const names = [...original.tensors.keys()].sort();
  mkdirSync(folder.at("sharded"));
  for (const shard of ["one", "two"]) {
    const bytes = readFileSync(fixture("tiny/transformer.safetensors"));
    const { offset, length } = original.tensors.get("proj_out.weight")!;
    if (shard === "two") bytes.fill(0, offset, offset + length);
    writeFileSync(folder.at(`sharded/${shard}.safetensors`), bytes);
  }
  const index = folder.at("sharded/model.safetensors.index.json");
  const projectedBy = (shard: string): TinyEdit => {
    // Some of either before, so that both indexes name the files in one order.
    const shardOf = (name: string, i: number) => (name === "proj_out.weight" ? shard : i % 2 ? "two" : "one");
    const places = names.map((name, i) => [name, `${shardOf(name, i)}.safetensors`]);
    writeFileSync(index, JSON.stringify({ weight_map: Object.fromEntries(places) }));
    return { settings: SMALL, files: { transformer: index } };
  };
  await found("sharded-cache", [projectedBy("one")]);
  const identity = await identityOf(index);
  expect(await found("sharded-cache", [projectedBy("two")])).toEqual(["encode-image", "encode-prompt"]);
  expect(await identityOf(index)).toBe(identity);
});

test("a result with one other bit is computed anew, and replaced", async () => {
  const edit = { settings: SMALL };
  await found("damaged", [edit]);
  for (const { path } of await cacheEntries(folder.at("damaged"))) {
    const bytes = readFileSync(path);
    bytes[bytes.length - 4]! ^= 1;
    writeFileSync(path, bytes);
  }
  expect(await found("damaged", [edit])).toEqual([]);
  expect(await found("damaged", [edit])).toEqual(["encode-image", "encode-prompt", "sample"]);
});
