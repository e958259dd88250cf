// Repacked weights: when the file that is there is used, and when it is made again. Edits with them are in test/cli/quantised.test.ts.
import { chmod, mkdir, open, readFile, rename, stat, utimes } from "node:fs/promises";
import { beforeEach, expect, test } from "vitest";
import { makeRepacked } from "../../src/catalog/local/repacked-files.js";
import { BLOCK_TYPES } from "../../src/checkpoint/gguf/block-types.js";
import { openCheckpoint } from "../../src/checkpoint/open.js";
import { type RepackedFile, repackedLayout } from "../../src/checkpoint/packed/packed-layout.js";
import { readBytes } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { qedit } from "../cli/qedit.js";
import { asNobody } from "../support/as-nobody.js";
import { temporaryFolder } from "../support/folder.js";
import { writeGguf } from "../support/gguf.js";
import { fixture } from "../support/golden.js";

const folder = temporaryFolder();
let made = 0;
let gguf: string;
let home: string;
let path: string;

beforeEach(async () => {
  const blocks = await readSafetensors(fixture("gguf/blocks.safetensors"));
  const bytes = await readBytes(blocks.tensors.get("Q8_0.blocks")!);
  home = folder.at(`${made++}`);
  await mkdir(`${home}/data/repacked`, { recursive: true });
  gguf = await writeGguf(`${home}/small.gguf`, {
    tensors: { "layer.weight": { shape: [6, 512], type: BLOCK_TYPES.Q8_0.id, bytes } },
  });
  path = `${home}/data/repacked/${"ab".repeat(32)}-transformer.safetensors`;
  await repack();
});

/** Makes the repacked file, or uses the one that is there; gives what was noted. */
async function repack(source = gguf): Promise<string> {
  const notes: string[] = [];
  const file: RepackedFile = { path, layout: repackedLayout(await openCheckpoint(source), path) };
  await makeRepacked(file, { emit: (event) => event.kind === "note" && notes.push(event.text) });
  return notes.join("\n");
}

async function overwrite(file: string): Promise<void> {
  const handle = await open(file, "r+");
  await handle.write(Buffer.alloc(100, 0x55), 0, 100, (await handle.stat()).size - 1000);
  await handle.close();
}

const models = (...args: string[]) => qedit(["models", ...args], { cwd: home, env: { QEDIT_HOME: home } });

test("a repacked file that is as it was written is used, and one that was overwritten in the middle is made again", async () => {
  const whole = await readFile(path);
  expect(await repack()).toBe("");
  await overwrite(path);
  expect(await repack()).toContain("small.gguf is repacked once");
  expect(await readFile(path)).toEqual(whole);
  expect(await repack()).toBe("");
});

test("a repacked file whose receipt says nothing of its state is made again", async () => {
  const receipt = path.replace(".safetensors", ".json");
  const { modified: _, ...earlier } = JSON.parse(await readFile(receipt, "utf8"));
  folder.write(receipt.slice(folder.path.length), JSON.stringify(earlier));
  expect(await repack()).toContain("is repacked once");
});

test("models verify and models repacked say that a repacked file was changed", async () => {
  expect((await models("repacked")).stdout).not.toContain("changed");
  expect((await models("verify", gguf)).code).toBe(0);
  await overwrite(path);
  expect((await models("repacked")).stdout).toMatch(
    /small\.gguf; changed since it was made: made again when it is wanted$/m,
  );
  const { code, stdout } = await models("verify", gguf);
  expect(stdout).toMatch(
    /^ok .*small\.gguf: .*\nBAD .*-transformer\.safetensors: .*changed since it was made of .*small\.gguf/,
  );
  expect(code).toBe(3);
});

test("a GGUF file that was touched or moved is known again where the data folder cannot be written to", async () => {
  await chmod(folder.path, 0o755);
  await chmod(`${home}/data/repacked`, 0o555);
  await utimes(gguf, 1, 1);
  const { mtimeMs } = await stat(path);
  expect(await asNobody(() => repack())).toBe("");
  await chmod(`${home}/data/repacked`, 0o755);
  await rename(gguf, `${home}/moved.gguf`);
  expect(await repack(`${home}/moved.gguf`)).toBe("");
  expect((await stat(path)).mtimeMs).toBe(mtimeMs);
});
