// Artifacts in the store: the files of the command line, found again by what determines them, and refused when they are damaged.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import { type Artifact, readArtifact, writeArtifact } from "../../../src/artifacts/artifact.js";
import { ClaimStore } from "../../../src/server/kafka/claim-store.js";
import { StageStore } from "../../../src/server/kafka/stage-store.js";
import { FolderFiles } from "../../../src/server/kafka/store-files.js";
import { float32 } from "../../../src/std/tensor.js";
import { temporaryFolder } from "../../support/folder.js";

const folder = temporaryFolder();
const store = new StageStore(new ClaimStore(new FolderFiles(folder.at("store")), 1_000_000));
const content = "c0".repeat(32);

const samples = (value: number): Artifact => ({
  kind: "samples",
  tensors: { latent_tensor: float32([1, 3, 2, 1], Float32Array.from([1, 2, 3, 4, 5, value])) },
  info: { settings: { steps: 4 }, sizes: {}, inputs: { "image.1": "ab" }, weights: { vae: "cd" } },
});
const made = samples(6);
let first: Awaited<ReturnType<StageStore["keep"]>>;
beforeAll(async () => {
  first = await store.keep(content, made, 1.5);
});

test("an artifact is the file that the command line writes, with its record beside it", async () => {
  const path = new URL(first.artifact.file.uri).pathname;
  expect(path).toBe(folder.at(`store/objects/${first.artifact.file.sha256.slice(0, 2)}/${first.artifact.file.sha256}`));
  expect(await readArtifact(path, "samples")).toEqual(made);
  await writeArtifact(folder.at("own.safetensors"), made);
  expect(readFileSync(path).equals(readFileSync(folder.at("own.safetensors")))).toBe(true);
  expect(readFileSync(`${path}.json`, "utf8")).toBe(readFileSync(folder.at("own.json"), "utf8"));
  expect(await store.read(first.artifact)).toEqual(made);
});

test("the first artifact that is kept holds, until it is damaged", async () => {
  expect(await store.find("d0".repeat(32))).toBeUndefined();
  expect(await store.find(content)).toEqual(first);
  expect(await store.keep(content, samples(7), 2)).toEqual(first);
  const [path, whole] = [new URL(first.artifact.file.uri), readFileSync(new URL(first.artifact.file.uri))];
  writeFileSync(path, "damaged");
  expect(await store.find(content)).toBeUndefined();
  const second = await store.keep(content, samples(7), 2);
  expect(second.seconds).toBe(2);
  expect(await store.find(content)).toEqual(second);
  writeFileSync(path, whole);
});

test("what is no entry is not read", async () => {
  for (const text of ["", "{", "null", '{"artifact":{"kind":"__proto__"},"seconds":1}']) {
    writeFileSync(folder.at(`store/stages/c0/${content}.json`), text);
    expect(await store.find(content)).toBeUndefined();
  }
});

test.each([
  ["missing", (path: URL) => rmSync(path), /is not there/],
  ["cut off", (path: URL) => writeFileSync(path, readFileSync(path).subarray(0, 50)), /has 50 bytes/],
  ["changed", (path: URL) => writeFileSync(path, Buffer.alloc(readFileSync(path).length)), /SHA-256/],
])("an artifact that is %s is refused as one", async (_, spoil, reason) => {
  const { artifact } = await store.keep("e0".repeat(32), made, 1);
  spoil(new URL(artifact.file.uri));
  const error = {
    code: "QEDIT_E_ARTIFACT",
    message: expect.stringMatching(reason),
    hint: expect.stringMatching(/qedit sample/),
  };
  await expect(store.read(artifact)).rejects.toMatchObject(error);
});

test("an artifact of another kind, and one outside the store, are refused", async () => {
  const { artifact } = await store.keep("f0".repeat(32), made, 1);
  const other = store.read({ ...artifact, kind: "latents" });
  await expect(other).rejects.toMatchObject({
    code: "QEDIT_E_ARTIFACT",
    message: expect.stringMatching(/it holds samples/),
  });
  const outside = store.read({ kind: "samples", file: { ...artifact.file, uri: "file:///etc/hostname" } });
  await expect(outside).rejects.toMatchObject({
    code: "QEDIT_E_ARTIFACT",
    message: expect.stringMatching(/no file of the store/),
  });
});
