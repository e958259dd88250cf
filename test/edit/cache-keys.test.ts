// Results of earlier runs: found again for the same edit, and never for another one.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { cacheEntries, openCache } from "../../src/artifacts/artifact-cache.js";
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
