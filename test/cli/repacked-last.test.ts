// GGUF weights are repacked when nothing cheaper is left to refuse: gigabytes are written for it.
import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { modelLibrary } from "../../src/edit/resolve/model-library.js";
import type { Emit } from "../../src/std/events.js";
import { writeQuantised } from "../support/gguf-quantised.js";
import { fixture } from "../support/golden.js";
import { CAT, LORA, QUICK, qedit, workFolder } from "./qedit.js";
import { succeed } from "./recipes.js";

const folder = workFolder();
const here = { cwd: folder.path, env: { QEDIT_HOME: folder.at("home") } };
const PROMPT = [CAT, "-p", "make it sepia", "--model", "tiny", ...QUICK];
const EDIT = ["run", ...PROMPT, "--transformer", "small.gguf", "-o", "edit.png"];
const SAMPLE = ["sample", "--transformer", "small.gguf", "--latents", "latents.safetensors", ...QUICK];

beforeAll(async () => {
  const checkpoint = await readSafetensors(fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors"));
  await writeQuantised(folder.at("small.gguf"), checkpoint, "Q8_0");
  const encode = ["encode-image", CAT, "--model", "tiny", "--megapixels", "0.05", ...QUICK];
  await succeed([...encode, "-o", "latents.safetensors"], here.cwd, here.env);
  await succeed(["encode-prompt", ...PROMPT, "-o", "cond.safetensors"], here.cwd, here.env);
});

test.each([
  ["a LoRA that is missing", [...EDIT, "--lora", "nothing.safetensors"], /Cannot find nothing\.safetensors/],
  ["a LoRA that does not fit", [...EDIT, "--lora", LORA], /published\.safetensors/],
  [
    "a VAE of another model",
    [...EDIT, "--vae", fixture("tiny-2/vae.safetensors")],
    /together: vae\.safetensors makes latents of 8 channels, small\.gguf takes 16/,
  ],
  [
    "a text encoder of another model",
    [...EDIT, "--text-encoder", fixture("tiny/text-encoder.safetensors")],
    /together: text-encoder\.safetensors makes prompt embeddings of 16 numbers, small\.gguf takes 48/,
  ],
  ["a prompt without the negative one", [...SAMPLE, "--cond", "cond.safetensors", "--cfg", "4"], /without a negative/],
  ["a prompt that is missing", [...SAMPLE, "--cond", "nothing.safetensors"], /nothing\.safetensors/],
])("%s is refused before", async (name, args, message) => {
  const home = folder.at(`home of ${name}`);
  const ended = await qedit(args, { ...here, env: { QEDIT_HOME: home } });
  expect([ended.code === 0, ended.stderr]).toEqual([false, expect.stringMatching(message)]);
  expect(ended.stderr).not.toContain("is repacked once");
  await expect(stat(join(home, "data/repacked"))).rejects.toThrow("ENOENT");
});

test("files of several models are refused by a plan as by the edit", async () => {
  const files = ["--transformer", "small.gguf", "--vae", fixture("tiny-2/vae.safetensors")];
  const planned = await qedit(["plan", ...PROMPT, ...files], here);
  const edited = await qedit([...EDIT, ...files], here);
  expect(planned.stderr).toContain(
    "Cannot use these model files together: vae.safetensors makes latents of 8 channels",
  );
  expect([planned.code, planned.stderr]).toEqual([edited.code, edited.stderr]);
});

test("a plan does not hold files here to those that are missing, or on another machine", async () => {
  const planned = (args: readonly string[]) => qedit(["plan", ...PROMPT, ...args], here);
  expect((await planned(["--remote", "sample=grpc://gpu-1:8001"])).code).toBe(0);
  const missing = await planned(["--model", "qwen-image-edit-2509", "--vae", fixture("tiny-2/vae.safetensors")]);
  expect(missing.stderr).not.toContain("Cannot use these model files together");
});

test("sample repacks what it computes with", async () => {
  const args = [...SAMPLE, "--cond", "cond.safetensors", "--cfg", "1", "--steps", "1", "-o", "samples.safetensors"];
  expect((await succeed(args, here.cwd, here.env)).stderr).toContain("small.gguf is repacked once");
});

test("weights that were repacked once are made again for the next edit of a process after they were removed", async () => {
  vi.stubEnv("QEDIT_HOME", folder.at("home of a server"));
  onTestFinished(() => void vi.unstubAllEnvs());
  const library = modelLibrary();
  const notes: string[] = [];
  const emit: Emit = (event) => void (event.kind === "note" && notes.push(event.text));
  const opened = async () => library.ready(await library.model(folder.at("small.gguf"), "transformer", emit), emit);
  const { repacked } = await opened();
  await opened();
  expect(notes).toHaveLength(1);
  await rm(repacked!.path);
  await opened();
  expect(notes).toHaveLength(2);
});
