// The files between stages: what is written comes back, ComfyUI's latents open, and every wrong file is refused in one line.

import { createHash } from "node:crypto";
import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { Artifact } from "../../src/artifacts/artifact.js";
import { decodeArtifact, encodeArtifact, readArtifact, writeArtifact } from "../../src/artifacts/artifact.js";
import type { ArtifactKind } from "../../src/artifacts/kinds.js";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { decodeSafetensors, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import type { WritableTensor } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { encodeSafetensors, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { fileHash } from "../../src/std/file-hash.js";
import { elementCount, float32, tensor } from "../../src/std/tensor.js";
import { temporaryFolder } from "../checkpoint/folder.js";

const path = temporaryFolder();
const INFO = {
  settings: { seed: "42", steps: 4 },
  sizes: { width: 24 },
  inputs: { image: "ab" },
  weights: { vae: "cd" },
};
const counting = (shape: number[]) =>
  float32(
    shape,
    Float32Array.from({ length: elementCount(shape) }, (_, i) => i / 8),
  );

const ARTIFACTS: Record<ArtifactKind, Artifact> = {
  latents: {
    kind: "latents",
    info: INFO,
    tensors: {
      latent: counting([1, 16, 2, 3]),
      "reference_latents.0": counting([1, 16, 4, 5]),
      "reference_latents.1": counting([1, 16, 1, 2]),
    },
  },
  cond: {
    kind: "cond",
    info: INFO,
    tensors: { prompt_embeds: counting([1, 5, 4]), negative_prompt_embeds: counting([1, 3, 4]) },
  },
  samples: { kind: "samples", info: INFO, tensors: { latent_tensor: counting([1, 16, 2, 3]) } },
};
const KINDS = Object.keys(ARTIFACTS) as ArtifactKind[];

describe("positions of pictures", () => {
  const positions = (...numbers: number[]) => tensor("int32", [numbers.length], Int32Array.from(numbers));
  const condWith = (tensors: Artifact["tensors"]): Artifact => ({
    ...ARTIFACTS.cond,
    tensors: { prompt_embeds: counting([1, 5, 4]), ...tensors },
  });

  test.each([
    ["of two pictures", { image_positions: positions(2, 2) }],
    ["of none", { image_positions: positions() }],
  ])("%s come back as they were written", async (_, tensors) => {
    const name = "positions.safetensors";
    await writeArtifact(path(name), condWith(tensors), { overwrite: true });
    expect(await readArtifact(path(name), "cond")).toEqual(condWith(tensors));
  });

  test.each([
    [
      "behind the end",
      { image_positions: positions(2, 6) },
      /"image_positions" wanted rising numbers up to 5, found 2, 6/,
    ],
    ["that fall", { image_positions: positions(3, 2) }, /found 3, 2/],
    ["below 0", { image_positions: positions(-1) }, /found -1/],
    ["of a prompt that is not there", { negative_image_positions: positions(1) }, /without "negative_prompt_embeds"/],
    ["as floats", { image_positions: counting([2]) }, /wanted I32, found F32/],
    [
      "of other pictures in the negative prompt",
      {
        negative_prompt_embeds: counting([1, 3, 4]),
        image_positions: positions(1),
        negative_image_positions: positions(),
      },
      /its prompts are about 1 and 0 places/,
    ],
  ])("%s are refused", async (_, tensors, message) => {
    const bytes = encodeArtifact(condWith(tensors));
    await expect(decodeArtifact(bytes, { kind: "cond", name: "x" })).rejects.toThrow(message);
  });
});

describe.each(KINDS)("%s", (kind) => {
  test("comes back from a file as it was written", async () => {
    await writeArtifact(path(`${kind}.safetensors`), ARTIFACTS[kind]);
    expect(await readArtifact(path(`${kind}.safetensors`), kind)).toEqual(ARTIFACTS[kind]);
  });

  test("comes back from bytes", async () => {
    expect(await decodeArtifact(encodeArtifact(ARTIFACTS[kind]), { kind, name: "stdin" })).toEqual(ARTIFACTS[kind]);
  });

  test("has its record as indented JSON beside it, the same as in the file", async () => {
    await writeArtifact(path(`record-${kind}.safetensors`), ARTIFACTS[kind]);
    const text = await readFile(path(`record-${kind}.json`), "utf8");
    const { metadata } = await readSafetensors(path(`record-${kind}.safetensors`));
    expect(JSON.parse(text)).toEqual({ kind, version: 1, ...INFO });
    expect(JSON.parse(metadata["qedit"] ?? "")).toEqual(JSON.parse(text));
    expect(metadata).toMatchObject({ kind, version: "1" });
    expect(text).toMatch(/^\{\n  "kind"[^]*\}\n$/);
  });

  test("has equal bytes when it is equal", () => {
    expect(encodeArtifact(ARTIFACTS[kind])).toEqual(encodeArtifact(structuredClone(ARTIFACTS[kind])));
  });

  test("is refused as any other kind, with the command that makes the right one", async () => {
    for (const wanted of KINDS.filter((other) => other !== kind)) {
      await expect(
        decodeArtifact(encodeArtifact(ARTIFACTS[kind]), { kind: wanted, name: "stdin" }),
      ).rejects.toMatchObject({
        code: "QEDIT_E_ARTIFACT",
        message: `Cannot use stdin as ${wanted}: it holds ${kind}`,
        hint: expect.stringMatching(/^Run `qedit (encode-image|encode-prompt|sample) … -o \w+\.safetensors`$/),
      });
    }
  });
});

test("a file of another tool with the same tensors is taken, with no info", async () => {
  const bytes = encodeSafetensors({ prompt_embeds: { ...counting([1, 3, 2]), storedAs: "BF16" } });
  expect(await decodeArtifact(bytes, { kind: "cond", name: "stdin" })).toEqual({
    kind: "cond",
    tensors: { prompt_embeds: counting([1, 3, 2]) },
    info: { settings: {}, sizes: {}, inputs: {}, weights: {} },
  });
});

test("an artifact without its optional tensors comes back without them", async () => {
  const bytes = encodeArtifact({ kind: "cond", info: INFO, tensors: { prompt_embeds: counting([1, 2, 3]) } });
  expect(Object.keys((await decodeArtifact(bytes, { kind: "cond", name: "stdin" })).tensors)).toEqual([
    "prompt_embeds",
  ]);
});

describe("writing", () => {
  test.each([NaN, Infinity])("refuses %s as a bad output and writes nothing", async (value) => {
    const tensors = { latent_tensor: float32([1, 16, 1, 1], new Float32Array(16).fill(value, 3)) };
    await expect(
      writeArtifact(path("nan.safetensors"), { kind: "samples", info: INFO, tensors }),
    ).rejects.toMatchObject({
      code: "QEDIT_E_BAD_OUTPUT",
      message: `Cannot write samples: tensor "latent_tensor" holds ${value} at element 3`,
    });
    await expect(readFile(path("nan.safetensors"))).rejects.toThrow("ENOENT");
  });

  test("refuses a name that its own record would overwrite", async () => {
    await expect(writeArtifact(path("x.json"), ARTIFACTS.cond)).rejects.toMatchObject({
      code: "QEDIT_E_ARTIFACT",
      hint: "Name it x.safetensors",
    });
  });

  test("a stage that gives wrong tensors is an internal error", () => {
    expect(() => encodeArtifact({ kind: "cond", info: INFO, tensors: {} })).toThrow(
      'internal: cannot write cond: it lacks the tensor "prompt_embeds"',
    );
  });
});

describe("reading refuses", () => {
  const record = (part: object) => ({ qedit: JSON.stringify({ kind: "cond", version: 1, ...INFO, ...part }) });
  const cond = (tensors: Record<string, WritableTensor>, metadata: Record<string, string> = record({})) =>
    encodeSafetensors(tensors, metadata);
  const embeds = { prompt_embeds: counting([1, 5, 4]) };

  test.each<[string, Uint8Array, RegExp]>([
    [
      "a model file",
      cond({ other: counting([2, 3]) }, {}),
      /it was not written by qedit, and it lacks the tensor "prompt_embeds"/,
    ],
    ["a record that is not JSON", cond(embeds, { qedit: "{" }), /its metadata "qedit" is not a record/],
    ["a record that lacks its settings", cond(embeds, record({ settings: undefined })), /is not a record/],
    ["a record whose hashes are not texts", cond(embeds, record({ inputs: { a: 1 } })), /is not a record/],
    ["a newer version", cond(embeds, record({ version: 2 })), /it has version 2, this qedit reads version 1/],
    ["an older version", cond(embeds, record({ version: 0 })), /it has version 0, this qedit reads version 1/],
    ["a missing tensor", cond({ negative_prompt_embeds: counting([1, 5, 4]) }), /it lacks the tensor "prompt_embeds"/],
    ["an unknown tensor", cond({ ...embeds, other: float32([1]) }), /it holds the unknown tensor "other"/],
    [
      "too few dimensions",
      cond({ prompt_embeds: counting([5, 4]) }),
      /tensor "prompt_embeds" wanted \[1, tokens, hidden\], found \[5, 4\]/,
    ],
    ["a batch", cond({ prompt_embeds: counting([2, 5, 4]) }), /wanted \[1, tokens, hidden\], found \[2, 5, 4\]/],
    ["no tokens", cond({ prompt_embeds: float32([1, 0, 4]) }), /found \[1, 0, 4\]/],
    [
      "two hidden sizes",
      cond({ ...embeds, negative_prompt_embeds: counting([1, 5, 6]) }),
      /"negative_prompt_embeds" wanted \[1, tokens, 4\], found \[1, 5, 6\]/,
    ],
    [
      "another type",
      cond({ prompt_embeds: { ...counting([1, 5, 4]), storedAs: "BF16" } }),
      /tensor "prompt_embeds" wanted F32, found BF16/,
    ],
    ["a truncated file", cond(embeds).subarray(0, -1), /is cut off/],
    ["something else", new TextEncoder().encode("hello, world"), /header of \d+ bytes/],
    ["nothing", new Uint8Array(0), /the file is empty/],
  ])("%s", async (_, bytes, message) => {
    const error = await decodeArtifact(bytes, { kind: "cond", name: "stdin" }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: "QEDIT_E_ARTIFACT",
      message: expect.stringMatching(message),
      hint: expect.stringContaining("qedit encode-prompt"),
    });
    expect((error as Error).message).toMatch(/^Cannot [^\n]*stdin[^\n]*$/);
  });

  test("a gap in numbered tensors", async () => {
    const tensors = { latent: counting([1, 16, 2, 3]), "reference_latents.1": counting([1, 16, 2, 3]) };
    const bytes = encodeSafetensors(tensors, record({ kind: "latents" }));
    await expect(decodeArtifact(bytes, { kind: "latents", name: "stdin" })).rejects.toThrow(
      'it lacks the tensor "reference_latents.0"',
    );
  });

  test("NaN, as a bad output", async () => {
    const bytes = cond({ prompt_embeds: float32([1, 1, 2], Float32Array.of(0, NaN)) });
    await expect(decodeArtifact(bytes, { kind: "cond", name: "stdin" })).rejects.toMatchObject({
      code: "QEDIT_E_BAD_OUTPUT",
      message: 'Cannot use stdin as cond: tensor "prompt_embeds" holds NaN at element 1',
      hint: expect.stringContaining("qedit encode-prompt"),
    });
  });

  test("a file that is missing or cut off, by its path", async () => {
    await expect(readArtifact(path("missing.safetensors"), "cond")).rejects.toMatchObject({
      code: "QEDIT_E_ARTIFACT",
      message: `Cannot find ${path("missing.safetensors")}`,
    });
    await writeArtifact(path("cut.safetensors"), ARTIFACTS.cond);
    await truncate(path("cut.safetensors"), (await stat(path("cut.safetensors"))).size - 1);
    await expect(readArtifact(path("cut.safetensors"), "cond")).rejects.toMatchObject({
      code: "QEDIT_E_ARTIFACT",
      message: expect.stringContaining("cut off"),
    });
  });
});

describe("samples and ComfyUI", () => {
  const read = (tensors: Record<string, WritableTensor>) =>
    decodeArtifact(encodeSafetensors(tensors, { prompt: "" }), { kind: "samples", name: "stdin" });
  const MARKER = { latent_format_version_0: float32([0]) };

  test("are stored as LoadLatent wants them: five dimensions and the empty marker", async () => {
    const bytes = encodeArtifact(ARTIFACTS.samples);
    await writeFile(path("comfy.latent"), bytes);
    const { tensors } = decodeSafetensors(bytes, "x");
    expect(tensors.get("latent_tensor")).toMatchObject({ dtype: "F32", shape: [1, 16, 1, 2, 3] });
    expect(tensors.get("latent_format_version_0")).toMatchObject({ dtype: "F32", shape: [0], length: 0 });
    const [stored] = [...(await readSafetensors(path("comfy.latent"))).tensors.values()].filter(
      ({ length }) => length > 0,
    );
    expect(stored && [...(await readTensor(stored))]).toEqual([
      ...(ARTIFACTS.samples.tensors["latent_tensor"]?.data ?? []),
    ]);
  });

  test.each([[[1, 16, 2, 3]], [[1, 16, 1, 2, 3]]])("open from SaveLatent with shape %j", async (shape) => {
    const { tensors, info } = await read({ latent_tensor: counting(shape), ...MARKER });
    expect(tensors["latent_tensor"]).toEqual(counting([1, 16, 2, 3]));
    expect(info).toEqual({ settings: {}, sizes: {}, inputs: {}, weights: {} });
  });

  test("open when ComfyUI stored them as bfloat16", async () => {
    const { tensors } = await read({ latent_tensor: { ...counting([1, 16, 1, 1]), storedAs: "BF16" }, ...MARKER });
    expect(tensors["latent_tensor"]).toEqual(counting([1, 16, 1, 1]));
  });

  test("are multiplied by 1/0.18215 without the marker, as LoadLatent does", async () => {
    const { tensors } = await read({ latent_tensor: float32([1, 16, 1, 1], new Float32Array(16).fill(0.18215)) });
    expect(tensors["latent_tensor"]?.data[0]).toBeCloseTo(1, 6);
  });

  test.each([[[1, 16, 2, 2, 3]], [[1, 4, 0, 3]], [[2, 16, 2, 3]]])("of shape %j are refused", async (shape) => {
    await expect(read({ latent_tensor: counting(shape), ...MARKER })).rejects.toMatchObject({
      code: "QEDIT_E_ARTIFACT",
      message: expect.stringContaining("wanted [1, channels, height, width]"),
    });
  });

  test("of integers are refused", async () => {
    await expect(
      read({ latent_tensor: tensor("uint8", [1, 16, 1, 1], new Uint8Array(16)), ...MARKER }),
    ).rejects.toThrow("wanted F32 or F16 or BF16, found U8");
  });

  test("a latent of ComfyUI is not taken for another kind", async () => {
    await writeSafetensors(path("saved.latent"), { latent_tensor: counting([1, 16, 2, 3]), ...MARKER });
    await expect(readArtifact(path("saved.latent"), "latents")).rejects.toThrow("it was not written by qedit");
  });
});

describe("fileHash", () => {
  test("is the SHA-256 of the bytes, from memory or from a file", async () => {
    const bytes = Uint8Array.of(1, 2, 3);
    await writeFile(path("hashed"), bytes);
    const wanted = createHash("sha256").update(bytes).digest("hex");
    expect(await fileHash(bytes)).toBe(wanted);
    expect(await fileHash(path("hashed"))).toBe(wanted);
  });

  test("of a missing file is an input failure", async () => {
    await expect(fileHash(path("nowhere"))).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: `Cannot read ${path("nowhere")}: it does not exist`,
    });
  });
});
