// The safetensors reader: what it gives, and what it refuses with which words.

import { realpathSync } from "node:fs";
import { mkdir, rename, symlink, utimes } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { publishedTensors } from "../../fixtures/headers/published.js";
import { sparseCheckpoint } from "../../fixtures/headers/sparse.js";
import { identityOf } from "../../src/checkpoint/open.js";
import { checkpointConfig, decodeSafetensors, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { encodeSafetensors, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { processorTime } from "../support/processor-time.js";
import { rawSafetensors, temporaryFolder, written } from "./folder.js";

const path = temporaryFolder();
const F32_2 = { dtype: "F32", shape: [2], data_offsets: [0, 8] };

describe("readSafetensors", () => {
  test("gives names, types, shapes and byte ranges that lie in the file", async () => {
    const file = path("good.safetensors");
    await writeSafetensors(
      file,
      { b: float32([2, 3]), a: tensor("int64", [], BigInt64Array.of(7n)) },
      { format: "pt" },
    );
    const { tensors, metadata } = await readSafetensors(file);
    expect(metadata).toEqual({ format: "pt" });
    expect([...tensors.keys()].sort()).toEqual(["a", "b"]);
    const a = tensors.get("a");
    expect(a).toMatchObject({ dtype: "I64", shape: [], length: 8, file: realpathSync(file) });
    expect(tensors.get("b")).toMatchObject({ dtype: "F32", shape: [2, 3], length: 24, offset: (a?.offset ?? 0) + 8 });
  });

  test("accepts spaces after the header, tensors in any order, and tensors without elements", async () => {
    const header = {
      b: { dtype: "U8", shape: [3], data_offsets: [1, 4] },
      empty: { dtype: "F32", shape: [0], data_offsets: [1, 1] },
      a: { dtype: "BOOL", shape: [1], data_offsets: [0, 1] },
    };
    const file = await written(path("spaces.safetensors"), rawSafetensors(`${JSON.stringify(header)}     `, 4));
    expect((await readSafetensors(file)).tensors.size).toBe(3);
  });

  test("accepts a file without tensors", async () => {
    expect((await readSafetensors(await written(path("none.safetensors"), rawSafetensors("{}", 0)))).tensors.size).toBe(
      0,
    );
  });

  test("keeps a tensor called __proto__", async () => {
    const file = await written(path("proto.safetensors"), rawSafetensors(`{"__proto__":${JSON.stringify(F32_2)}}`, 8));
    expect([...(await readSafetensors(file)).tensors.keys()]).toEqual(["__proto__"]);
  });

  test("names the file that a symbolic link leads to in tensors, and the link in messages", async () => {
    const file = path("target.safetensors");
    await writeSafetensors(file, { a: float32([1]) });
    await symlink(file, path("link.safetensors"));
    const checkpoint = await readSafetensors(path("link.safetensors"));
    expect(checkpoint.file).toBe(path("link.safetensors"));
    expect(checkpoint.tensors.get("a")?.file).toBe(realpathSync(file));
  });

  test("a missing file is a missing model", async () => {
    await expect(readSafetensors(path("missing.safetensors"))).rejects.toMatchObject({
      code: "QEDIT_E_MODEL_MISSING",
      message: `Cannot find ${path("missing.safetensors")}`,
    });
  });

  test("a folder is refused", async () => {
    await mkdir(path("folder"));
    await expect(readSafetensors(path("folder"))).rejects.toMatchObject({
      code: "QEDIT_E_CHECKPOINT",
      message: expect.stringContaining("it is a folder"),
    });
  });

  test("reads a header of 1933 tensors in well under a second", async () => {
    const file = path("big.safetensors");
    await sparseCheckpoint(file, publishedTensors("qwen_image_edit_2509_fp8_e4m3fn"));
    await readSafetensors(file);
    const spent = processorTime();
    await readSafetensors(file);
    expect(spent()).toBeLessThan(500); // 7 to 20 ms on two cores; the rest is for busy machines
  });
});

const entry = (part: object) => rawSafetensors({ a: { ...F32_2, ...part } }, 8);
const lengthOnly = (length: bigint, size: number) => {
  const bytes = rawSafetensors("{}", size);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
};

describe("readSafetensors refuses", () => {
  test.each<[string, Uint8Array | string, RegExp]>([
    ["an empty file", "", /the file is empty/],
    ["a file shorter than its length bytes", "abc", /wanted at least 8 bytes, found 3/],
    ["a header longer than the limit", lengthOnly(100_000_001n, 0), /header of 100000001 bytes, at most 100000000/],
    ["the largest length there is", lengthOnly(2n ** 64n - 1n, 0), /header of 18446744073709551615 bytes/],
    ["a header longer than the file", lengthOnly(1000n, 0), /wanted a header of 1000 bytes, found 2/],
    ["a header of no bytes", lengthOnly(0n, 0), /does not start with "\{"/],
    ["a header that starts with a space", rawSafetensors(" {}", 0), /does not start with "\{"/],
    ["a header that is not JSON", rawSafetensors("{abc}", 0), /not a JSON object/],
    ["a header that is cut off", rawSafetensors('{"a":{"dtype":"F32"', 0), /not a JSON object/],
    ["a header that is not UTF-8", new Uint8Array([4, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff, 0xfe, 0x7d]), /not UTF-8/],
    [
      "a name that occurs twice",
      rawSafetensors(`{"a":${JSON.stringify(F32_2)},"a":${JSON.stringify(F32_2)}}`, 8),
      /names "a" twice/,
    ],
    [
      "a name that occurs twice in different spellings",
      rawSafetensors(`{"a":${JSON.stringify(F32_2)},"\\u0061"  :${JSON.stringify(F32_2)}}`, 8),
      /names "a" twice/,
    ],
    [
      "a field that occurs twice",
      rawSafetensors('{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
      /names "dtype" twice/,
    ],
    ["a tensor that is no object", rawSafetensors({ a: 5 }, 0), /tensor "a" is not described/],
    ["a type of another format", entry({ dtype: "I4" }), /tensor "a" has the unknown type "I4"/],
    ["a type named as a property of objects", entry({ dtype: "toString" }), /unknown type "toString"/],
    ["a type that is no text", entry({ dtype: 3 }), /unknown type 3/],
    ["a missing shape", entry({ shape: undefined }), /has the shape nothing/],
    ["a negative dimension", entry({ shape: [-2] }), /has the shape \[-2\]/],
    ["a fractional dimension", entry({ shape: [0.5] }), /has the shape \[0.5\]/],
    ["a dimension beyond safe integers", entry({ shape: [2 ** 60] }), /has the shape/],
    ["a product that overflows", entry({ shape: [2 ** 52, 2 ** 52] }), /wanted \S+ bytes, found 8/],
    [
      "a product that overflows before a zero",
      entry({ shape: [...Array<number>(30).fill(2 ** 52), 0], data_offsets: [0, 0] }),
      /wanted NaN bytes/,
    ],
    ["one offset", entry({ data_offsets: [0] }), /wanted two non-negative integers/],
    ["a negative offset", entry({ data_offsets: [-8, 0] }), /wanted two non-negative integers/],
    ["an end before the begin", entry({ data_offsets: [8, 0] }), /ends at byte 0, before its begin 8/],
    ["a length that is not product times size", entry({ shape: [3] }), /of F32 \[3\] wanted 12 bytes, found 8/],
    ["a truncated file", rawSafetensors({ a: F32_2 }, 7), /cut off/],
    [
      "bytes after the last tensor",
      rawSafetensors({ a: F32_2 }, 9),
      /the tensors end at byte \d+, the file at \d+: 1 bytes belong to nothing/,
    ],
    [
      "overlapping tensors",
      rawSafetensors({ a: F32_2, b: { ...F32_2, data_offsets: [4, 12] } }, 12),
      /tensor "b" at byte \d+ overlaps "a"/,
    ],
    [
      "a hole between tensors",
      rawSafetensors({ a: F32_2, b: { ...F32_2, data_offsets: [12, 20] } }, 20),
      /leaves a hole after "a"/,
    ],
    [
      "a hole before the first tensor",
      rawSafetensors({ a: { ...F32_2, data_offsets: [4, 12] } }, 12),
      /leaves a hole after the header/,
    ],
    [
      "nested metadata",
      rawSafetensors({ __metadata__: { a: { b: "c" } } }, 0),
      /metadata "a" wanted a string, found \{"b":"c"\}/,
    ],
    ["metadata that is a list", rawSafetensors({ __metadata__: ["a"] }, 0), /"__metadata__" is not a JSON object/],
    ["metadata with a number", rawSafetensors({ __metadata__: { a: 1 } }, 0), /metadata "a" wanted a string, found 1/],
    [
      "a zip archive",
      "PK\u0003\u0004\u0014\u0000\u0000\u0000\u0000\u0000archive/data.pkl",
      /found a zip archive, as PyTorch's/,
    ],
    ["a pickle", Uint8Array.of(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20), /found a Python pickle/],
    ["a GGUF file", "GGUF\u0003\u0000\u0000\u0000\u0000\u0000", /found a GGUF file/],
    [
      "a Git LFS pointer",
      "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
      /found a Git LFS pointer/,
    ],
    ["a web page", "<!DOCTYPE html><html></html>", /found a web page/],
  ])("%s", async (name, bytes, message) => {
    const file = await written(path(`${name}.safetensors`), bytes);
    const error = await readSafetensors(file).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: "QEDIT_E_CHECKPOINT", message: expect.stringMatching(message) });
    expect((error as Error).message).toContain(file);
    expect((error as Error).message).not.toContain("\n");
  });
});

describe("only a file that is shorter than its header says is called partly downloaded", () => {
  const hintOf = async (bytes: Uint8Array | string) =>
    readSafetensors(await written(path("hinted.safetensors"), bytes)).then(
      () => "",
      ({ hint }: { hint: string }) => hint,
    );

  test.each<[string, Uint8Array | string]>([
    ["an empty file", ""],
    ["a file of a few bytes", "abc"],
    ["a header that is cut off", lengthOnly(1000n, 0)],
    ["data that is cut off", rawSafetensors({ a: F32_2 }, 7)],
  ])("%s is", async (_, bytes) => {
    expect(await hintOf(bytes)).toBe("The file is only partly downloaded: download it again");
  });

  test.each<[string, Uint8Array | string]>([
    ["an unknown type", entry({ dtype: "I4" })],
    ["bytes at the end", rawSafetensors({ a: F32_2 }, 9)],
    ["a header that is no JSON", rawSafetensors("{abc}", 0)],
    ["a hole", rawSafetensors({ a: { ...F32_2, data_offsets: [4, 12] } }, 12)],
    ["something else", "a text that is no safetensors file"],
    ["a GGUF file", "GGUF\u0003\u0000\u0000\u0000\u0000\u0000"],
  ])("%s is not", async (_, bytes) => {
    expect(await hintOf(bytes)).not.toMatch(/^$|damaged|partly|download it again/);
  });
});

test.each([
  ["F8_E8M0", 1],
  ["F8_E4M3FNUZ", 1],
  ["F6_E2M3", 0.75],
  ["F4", 0.5],
  ["C64", 8],
])("the type %s of the format is read as it stands", async (dtype, bytes) => {
  const header = { a: { dtype, shape: [2, 4], data_offsets: [0, 8 * bytes] } };
  const file = await written(path(`${dtype}.safetensors`), rawSafetensors(header, 8 * bytes));
  expect((await readSafetensors(file)).tensors.get("a")).toMatchObject({ dtype, shape: [2, 4], length: 8 * bytes });
});

describe("a header made to exhaust memory is refused before it is parsed", () => {
  test.each([
    ["depth", () => '{"a":'.repeat(19_000_000), /the header nests deeper than 8 levels/],
    ["lists in lists", () => `{"a":${"[".repeat(90_000_000)}`, /the header nests deeper than 8 levels/],
    ["entries", () => `{"a":{"dtype":"F32","shape":[${"1,".repeat(40_000_000)}1]}}`, /holds more than 1000000 entries/],
  ])("by its %s", async (_, header, message) => {
    const file = await written(path("bomb.safetensors"), rawSafetensors(header(), 0));
    const spent = processorTime();
    await expect(readSafetensors(file)).rejects.toMatchObject({ message: expect.stringMatching(message) });
    expect(spent()).toBeLessThan(3000); // 100 to 300 ms on two cores, most of it to read the file
  });

  test("and so is one in its metadata", () => {
    const config = '{"a":'.repeat(1_000_000);
    expect(() => checkpointConfig({ file: "x", tensors: new Map(), metadata: { config } })).toThrow(
      'Cannot read x: metadata "config" is not a JSON object',
    );
  });
});

describe("decodeSafetensors", () => {
  test("gives offsets into the bytes", () => {
    const bytes = encodeSafetensors({ a: float32([2], Float32Array.of(1.5, -2)) });
    const a = decodeSafetensors(bytes, "stdin").tensors.get("a");
    expect([...new Float32Array(bytes.slice(a?.offset, (a?.offset ?? 0) + (a?.length ?? 0)).buffer)]).toEqual([
      1.5, -2,
    ]);
  });

  test("names its source in errors", () => {
    expect(() => decodeSafetensors(new Uint8Array(0), "stdin")).toThrow("Cannot read stdin: the file is empty");
  });
});

describe("the identity of weights", () => {
  const large = (last: number) => ({ a: float32([600_000], new Float32Array(600_000).fill(1).fill(last, 599_999)) });
  const identity = async (file: string) => identityOf(file);

  test("stays the same for a copy under another name and time", async () => {
    await writeSafetensors(path("one.safetensors"), large(2));
    const before = await identity(path("one.safetensors"));
    await rename(path("one.safetensors"), path("other.safetensors"));
    await utimes(path("other.safetensors"), 1, 1);
    expect(await identity(path("other.safetensors"))).toBe(before);
    expect(before).toMatch(/^[0-9a-f]{64}$/);
  });

  test("changes with the last value, with a name, and with any value of a small file", async () => {
    await writeSafetensors(path("a.safetensors"), large(2));
    await writeSafetensors(path("b.safetensors"), large(3));
    await writeSafetensors(path("c.safetensors"), { b: large(2).a });
    await writeSafetensors(path("d.safetensors"), { a: float32([5000]) });
    await writeSafetensors(path("e.safetensors"), { a: float32([5000], new Float32Array(5000).fill(1, 2500, 2501)) });
    const found = await Promise.all(["a", "b", "c", "d", "e"].map((name) => identity(path(`${name}.safetensors`))));
    expect(new Set(found).size).toBe(5);
  });
});

describe("checkpointConfig", () => {
  const withConfig = (config?: string) => ({
    file: "x",
    tensors: new Map(),
    metadata: config === undefined ? {} : { config },
  });

  test("gives the JSON object, and an empty one when there is none", () => {
    expect(checkpointConfig(withConfig('{"num_layers":2}'))).toEqual({ num_layers: 2 });
    expect(checkpointConfig(withConfig())).toEqual({});
  });

  test.each(["[1]", "{", "null"])("refuses %s", (config) => {
    expect(() => checkpointConfig(withConfig(config))).toThrow('Cannot read x: metadata "config" is not a JSON object');
  });
});
