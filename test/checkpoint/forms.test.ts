// The same tiny weights as one file, in shards, as folders of diffusers and transformers: the same tensors under the same keys.

import { execFileSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { copyFile, cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import names from "../../fixtures/tiny/names.json" with { type: "json" };
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openCheckpoint, openPart } from "../../src/checkpoint/open.js";
import { type ModelPart, publishedNames, stripPrefix } from "../../src/checkpoint/published-names.js";
import { readBytes } from "../../src/checkpoint/read-tensor.js";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { Graph } from "../../src/graph/graph.js";
import { transformerConfig } from "../../src/models/qwen-image/transformer-config.js";
import { fixture } from "../support/golden.js";
import { temporaryFolder } from "./folder.js";
import { type Rewritten, rewritten } from "./rewrite.js";

const place = temporaryFolder();

/** The tiny files, and the names under which diffusers or transformers hold the same tensors; the transformer's are the published ones. */
const PARTS: readonly { part: ModelPart; file: string; foreign: Readonly<Record<string, string>> | undefined }[] = [
  { part: "vae", file: "vae", foreign: names.vae },
  { part: "vae", file: "vae-other", foreign: names["vae-other"] },
  { part: "text_encoder", file: "text-encoder-fp32", foreign: names["text-encoder-fp32"] },
  { part: "transformer", file: "transformer", foreign: undefined },
];

async function write(folder: string, file: string, options: Omit<Rewritten, "folder">): Promise<string> {
  await mkdir(place(folder), { recursive: true });
  return rewritten(await readSafetensors(fixture(`tiny/${file}.safetensors`)), { ...options, folder: place(folder) });
}

async function expectSameWeights(found: Checkpoint, file: string): Promise<void> {
  const wanted = await readSafetensors(fixture(`tiny/${file}.safetensors`));
  expect([...found.tensors.keys()].sort()).toEqual([...wanted.tensors.keys()].sort());
  for (const [name, stored] of wanted.tensors) {
    const other = found.tensors.get(name)!;
    expect([name, other.dtype, other.shape]).toEqual([name, stored.dtype, stored.shape]);
    expect(Buffer.from(await readBytes(other)).equals(Buffer.from(await readBytes(stored)))).toBe(true);
  }
  expect(checkpointConfig(found)).toEqual(checkpointConfig(wanted));
}

describe.each(PARTS)("$file", ({ part, file, foreign }) => {
  const rename =
    foreign && Object.fromEntries(Object.entries(foreign).map(([theirs, published]) => [published, theirs]));

  test("the list of the reference's names covers the whole file", async () => {
    const published = (await readSafetensors(fixture(`tiny/${file}.safetensors`))).tensors;
    if (foreign) expect(Object.values(foreign).sort()).toEqual([...published.keys()].sort());
  });

  test("under the reference's names in one file", async () => {
    const path = await write(`${file}-single`, file, { file: "any-name.safetensors", rename, keepMetadata: true });
    await expectSameWeights(await openPart(path, part), file);
  });

  test("as a folder with config.json", async () => {
    await write(`${file}-folder`, file, { file: "diffusion_pytorch_model.safetensors", rename, config: true });
    await expectSameWeights(await openPart(place(`${file}-folder`), part), file);
  });

  test("as a folder of shards, by the folder or by the index", async () => {
    await write(`${file}-shards`, file, { file: "model.safetensors", rename, config: true, shards: 3 });
    await expectSameWeights(await openPart(place(`${file}-shards`), part), file);
    await expectSameWeights(await openPart(join(place(`${file}-shards`), "model.safetensors.index.json"), part), file);
  });

  test("inside the folder of a whole model", async () => {
    await write(`${file}-whole/${part}`, file, { file: "model.safetensors", rename, config: true, shards: 2 });
    await expectSameWeights(await openPart(place(`${file}-whole`), part), file);
  });

  test("in a cache of links into blobs", async () => {
    const from = await write(`${file}-blobs`, file, { file: "0a1b2c", rename, config: true });
    const folder = place(`${file}-snapshot`);
    await mkdir(folder);
    await symlink(from, join(folder, "diffusion_pytorch_model.safetensors"));
    await symlink(place(`${file}-blobs/config.json`), join(folder, "config.json"));
    await expectSameWeights(await openPart(folder, part), file);
  });
});

test("a file with the published names comes back as it is", async () => {
  for (const { part, file } of PARTS) {
    const checkpoint = await readSafetensors(fixture(`tiny/${file}.safetensors`));
    expect(publishedNames(checkpoint, part)).toBe(checkpoint);
  }
});

test("the full weights of a folder are taken before its variants", async () => {
  await write("variants", "vae-fp32", { file: "diffusion_pytorch_model.safetensors", keepMetadata: true });
  await copyFile(fixture("tiny/vae.safetensors"), join(place("variants"), "diffusion_pytorch_model.fp16.safetensors"));
  await expectSameWeights(await openPart(place("variants"), "vae"), "vae-fp32");
});

describe("a transformer whose references are at timestep 0", () => {
  const numbers = async (change: (checkpoint: Checkpoint) => Checkpoint) => {
    const checkpoint = change(await readSafetensors(fixture("tiny/transformer-2511.safetensors")));
    return transformerConfig(Weights.of(new Graph("numbers"), checkpoint), checkpointConfig(checkpoint));
  };
  const without = (checkpoint: Checkpoint, name: string) => ({
    ...checkpoint,
    tensors: new Map([...checkpoint.tensors].filter(([key]) => key !== name)),
  });
  const MARKER = "__index_timestep_zero__";

  test("is known by its marker, below a prefix or beside it", async () => {
    expect((await numbers((each) => each)).referencesAtZero).toBe(true);
    const prefixed = (each: Checkpoint, isMarked: boolean) =>
      stripPrefix({
        ...each,
        tensors: new Map(
          [...each.tensors].map(([key, stored]) => [
            key === MARKER && !isMarked ? key : `model.diffusion_model.${key}`,
            stored,
          ]),
        ),
      });
    expect((await numbers((each) => prefixed(each, true))).referencesAtZero).toBe(true);
    expect((await numbers((each) => prefixed(each, false))).referencesAtZero).toBe(true);
  });

  test("is known by zero_cond_t of its config.json where there is no marker", async () => {
    const configured = (value: boolean) => (each: Checkpoint) => {
      const config = JSON.stringify({ ...checkpointConfig(each), zero_cond_t: value });
      return { ...without(each, MARKER), metadata: { config } };
    };
    expect((await numbers(configured(true))).referencesAtZero).toBe(true);
    expect((await numbers(configured(false))).referencesAtZero).toBe(false);
  });
});

describe("a folder is refused when", () => {
  const refused = async (path: string, message: RegExp, code = "QEDIT_E_CHECKPOINT") => {
    await expect(openCheckpoint(path)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  };

  test("nothing is in it", async () => {
    await mkdir(place("empty"));
    await refused(place("empty"), /Cannot find a \.safetensors file in/, "QEDIT_E_MODEL_MISSING");
  });

  test("it holds a pickle only", async () => {
    await mkdir(place("pickled"));
    await writeFile(place("pickled/diffusion_pytorch_model.bin"), "PK");
    await refused(place("pickled"), /\.bin is a Python pickle/);
  });

  test("it holds two models", async () => {
    await mkdir(place("two"));
    for (const name of ["a", "b"]) await cp(fixture("tiny/vae-fp32.safetensors"), place(`two/${name}.safetensors`));
    await refused(place("two"), /it holds several: a\.safetensors, b\.safetensors/);
  });

  test("a shard of its index is missing", async () => {
    await write("lost", "vae-fp32", { file: "model.safetensors", shards: 2 });
    await writeFile(
      place("lost/model.safetensors.index.json"),
      JSON.stringify({ weight_map: { a: "model-00009-of-00009.safetensors" } }),
    );
    await refused(place("lost"), /Cannot find .*model-00009-of-00009/, "QEDIT_E_MODEL_MISSING");
  });

  test.each([
    [
      "a tensor that no shard has",
      { weight_map: { absent: "model-00001-of-00002.safetensors" } },
      /"absent" is not in/,
    ],
    [
      "a shard above the folder",
      { weight_map: { a: "../vae-fp32.safetensors" } },
      /a \.safetensors file of the same folder is wanted/,
    ],
    [
      "a shard by its absolute path",
      { weight_map: { a: fixture("tiny/vae-fp32.safetensors") } },
      /a \.safetensors file of the same folder is wanted/,
    ],
    [
      "a shard in a Windows folder",
      { weight_map: { a: "..\\x.safetensors" } },
      /a \.safetensors file of the same folder is wanted/,
    ],
    ["a pickle", { weight_map: { a: "model.bin" } }, /a \.safetensors file of the same folder is wanted/],
    ["something that is no text", { weight_map: { a: 1 } }, /a \.safetensors file of the same folder is wanted/],
    ["nothing", { weight_map: {} }, /names no tensors/],
    ["no weight_map", {}, /wanted JSON with an object "weight_map"/],
  ])("its index names %s", async (_, index, message) => {
    const folder = `index-${message.source.length}-${JSON.stringify(index).length}`;
    await write(folder, "vae-fp32", { file: "model.safetensors", shards: 2 });
    await writeFile(place(`${folder}/model.safetensors.index.json`), JSON.stringify(index));
    await refused(place(folder), message);
  });

  test.each([
    ["a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", /git lfs pull/],
    ["an empty file", "", /Download it again/],
    ["something else", "[1]", /Download it again/],
  ])("a config.json that is %s", async (found, text, hint) => {
    const path = await write(`config ${found}`, "vae-fp32", { file: "model.safetensors" });
    const config = join(dirname(path), "config.json");
    await writeFile(config, text);
    await expect(openCheckpoint(path)).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: `Cannot read ${config}: wanted the model's configuration as a JSON object, found ${found}`,
      hint: expect.stringMatching(hint),
    });
  });

  // Read as plain files are, each of these would wait for ever, or take all memory.
  test.runIf(process.platform !== "win32").each([
    ["config.json", "a pipe", (path: string) => execFileSync("mkfifo", [path])],
    ["config.json", "a device", (path: string) => symlinkSync("/dev/zero", path)],
    ["model.safetensors.index.json", "a pipe", (path: string) => execFileSync("mkfifo", [path])],
    ["model.safetensors.index.json", "a device", (path: string) => symlinkSync("/dev/zero", path)],
  ])("%s that is %s", async (name, what, make) => {
    const path = await write(`${name} ${what}`, "vae-fp32", { file: "model.safetensors" });
    make(join(dirname(path), name));
    await expect(openCheckpoint(dirname(path))).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringContaining(`${name}: it is ${what}`),
    });
  });

  test("one shard is named in place of all", async () => {
    await write("one", "vae-fp32", { file: "model.safetensors", shards: 2 });
    await refused(place("one/model-00001-of-00002.safetensors"), /it is one of several parts/);
  });
});
