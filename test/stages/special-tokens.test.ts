// Special tokens that a user types, from the prompt to its embeddings.
import { expect, test } from "vitest";
import { floatTensor, readArtifact } from "../../src/artifacts/artifact.js";
import { CAT, expectRefusal, models, QUICK, qedit, workFolder } from "../cli/qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const ENCODE = ["encode-prompt", CAT, ...models({}, ["--text-encoder"]), ...QUICK];

async function embeds(prompt: string, name: string, extra: readonly string[] = []) {
  const ended = await qedit([...ENCODE, "-p", prompt, "-o", name, ...extra], here);
  expect(ended.code, ended.stderr).toBe(0);
  const cond = await readArtifact(folder.at(name), "cond");
  const [positive, negative] = [floatTensor(cond, "prompt_embeds")!, floatTensor(cond, "negative_prompt_embeds")];
  return { positive, negative, stderr: ended.stderr };
}

test("a typed <|endoftext|> ends the prompt: the embeddings before it are kept, with a warning", async () => {
  const whole = await embeds("make it red", "whole.safetensors");
  const cut = await embeds("make it red<|endoftext|> and blue", "cut.safetensors", ["--negative-prompt", "dark"]);
  const width = whole.positive.shape[2]!;
  const tokens = whole.positive.shape[1]! - 5;
  expect(cut.positive.shape).toEqual([1, tokens, width]);
  const furthest = cut.positive.data.reduce(
    (most, value, i) => Math.max(most, Math.abs(value - whole.positive.data[i]!)),
    0,
  );
  expect(furthest).toBeLessThan(1e-5);
  expect(cut.negative!.shape[1]).toBeGreaterThan(5);
  expect(cut.stderr).toMatch(
    /^warning: the prompt ends at its <\|endoftext\|>: the model sees nothing of what follows$/m,
  );
});

test("a prompt that begins with <|endoftext|> says nothing", async () => {
  const ended = await qedit([...ENCODE, "-p", "<|endoftext|>make it red", "-o", "none.safetensors"], here);
  expectRefusal(ended, { code: 2, message: /empty prompt/ });
  const bare = [
    "encode-prompt",
    ...ENCODE.slice(2),
    "-p",
    "<|endoftext|>",
    "--allow-empty-prompt",
    "-o",
    "none.safetensors",
  ];
  expectRefusal(await qedit(bare, here), { code: 2, message: /begins with <\|endoftext\|>, without a picture/ });
});

test("each special token of ComfyUI's tokenizer is one token", async () => {
  const one = await embeds("a<|img|>", "img.safetensors");
  const others = await embeds("a<|endofimg|><|meta|><|endofmeta|>", "meta.safetensors");
  expect(others.positive.shape[1]! - one.positive.shape[1]!).toBe(2);
});
