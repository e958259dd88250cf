// What inspect says of pictures, tensor files and model files.
import { readFile, writeFile } from "node:fs/promises";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { encodePicture } from "../../src/image/io/write.js";
import { fixture } from "../support/golden.js";
import { CAT, expectRefusal, FILES, LORA, qedit, workFolder } from "./qedit.js";
import { catIn, QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;

const shown = async (...args: readonly string[]) => (await succeed(["inspect", ...args], here)).stdout;

beforeAll(async () => {
  const cat = catIn(here);
  await succeed(["run", cat, ...QUICK_EDIT, "--lora", `${LORA}:0.6`, "--keep", "kept", "-o", "out.png"], here);
}, 120_000);

describe("a picture", () => {
  test("tells its recipe: what was asked for, the files and the hidden numbers", async () => {
    const text = await shown("out.png");
    for (const line of [
      /png picture, 144x96/,
      /made by: qedit \d/,
      /prompt: make it red/,
      /seed: 7/,
      /2 steps, cfg 1, euler, simple, shift 3/,
      /sigmas: 1 /,
      /picture 1: cat\.jpg \(sha256/,
      /vae: vae\.safetensors/,
      /LoRA 1: published\.safetensors .* strength 0\.6/,
    ]) {
      expect(text).toMatch(line);
    }
  });

  test("has every number with --json, no time and no folder", async () => {
    const text = await shown("out.png", "--json");
    expect(JSON.parse(text)).toMatchObject({
      kind: "picture",
      format: "png",
      recipe: {
        recipe: 1,
        settings: {
          encode_image: {
            version: 2,
            device: "cpu",
            compute_type: "f32",
            runtime: expect.stringMatching(/^onnxruntime \d/),
          },
          encode_prompt: { template: expect.any(String), negative_prompt: null },
          sample: {
            seed: "7",
            noise: "torch-cpu-mt19937",
            noise_seed_offset: 1,
            sigmas: [1, expect.any(Number), 0],
            cfgNorm: 1,
            lora_strengths: [0.6],
          },
          decode: { keep_size: false },
        },
        sizes: {
          target: { steps: expect.any(Array) },
          vision_grids: [[1, 22, 34]],
          vision_steps: [[{ kind: "resize" }]],
        },
        names: { "image.1": "cat.jpg", vae: "vae.safetensors", "lora.0": "published.safetensors" },
      },
    });
    expect(text).not.toContain(here);
    expect(text).not.toContain(`${new Date().getFullYear()}-`);
  });

  test("without a recipe says so, with its size", async () => {
    expect(await shown(CAT)).toMatch(/jpeg picture, 451x300, .*\n  no recipe\n/);
  });

  test("of another tool names the tool", async () => {
    const picture = sharp({ create: { width: 4, height: 4, channels: 3, background: "red" } });
    await picture
      .png()
      .withExif({ IFD0: { Make: 'workflow:{"nodes":[]}', Model: 'prompt:{"3":{}}' } })
      .toFile(folder.at("comfy.png"));
    expect(await shown("comfy.png")).toContain("no recipe of qedit, but one of ComfyUI");
  });

  test("cannot paint the terminal or move its cursor", async () => {
    const { recipe } = JSON.parse(await shown("out.png", "--json")) as { recipe: { settings: Record<string, object> } };
    const evil = {
      ...recipe,
      settings: { ...recipe.settings, encode_prompt: { prompt: "\u001b[2Jmake\nit\u009b31m red" } },
    };
    const picture = { width: 2, height: 1, data: Uint8Array.of(0, 0, 0, 255, 255, 255) };
    await writeFile(
      folder.at("escape.png"),
      await encodePicture(picture, { format: "png", description: JSON.stringify(evil) }),
    );
    const text = await shown("escape.png");
    expect(text).toContain("prompt: \\u001b[2Jmake⏎it\\u009b31m red\n");
    expect(text).not.toMatch(/[\u001b\u009b]/);
  });
});

test("an artifact tells its kind, tensors and record, and claims no version of qedit", async () => {
  const text = await shown("kept/cond.safetensors");
  expect(text).not.toContain("made by");
  expect(text).toMatch(/cond of qedit, version 1[^]*tensor prompt_embeds: F32 \[1, \d+, 16\][^]*prompt: make it red/);
});

test.each([
  ["a picture", "out.png"],
  ["a tensor file", "kept/cond.safetensors"],
])("%s on stdin says as much as its file", async (_, name) => {
  const read = async (args: readonly string[], input?: Buffer) =>
    JSON.parse((await qedit(["inspect", ...args, "--json"], { cwd: here, ...(input && { input }) })).stdout) as object;
  const piped = await read(["-"], await readFile(folder.at(name)));
  expect(piped).toEqual({ ...(await read([name])), file: "stdin" });
});

test("a model file on stdin is refused: it is named by its path", async () => {
  const input = await readFile(FILES["--vae"]);
  expectRefusal(await qedit(["inspect", "-"], { cwd: here, input }), {
    code: 2,
    message: /Cannot inspect stdin: neither a picture nor a tensor file/,
    hint: /inspect FILE/,
  });
});

test("checkpoints tell network, types, scales, vision and LoRA layout", async () => {
  const text = await shown(
    FILES["--transformer"],
    FILES["--text-encoder"],
    fixture("tiny/text-encoder-no-vision.safetensors"),
    FILES["--vae"],
    LORA,
  );
  expect(text).toMatch(/transformer, 2 blocks, fp8 e4m3/);
  expect(text).toMatch(/text encoder.* scaled.*with vision/);
  expect(text).toMatch(/without vision/);
  expect(text).toMatch(/Qwen-Image VAE/);
  expect(text).toMatch(/rank 4, 24 modules, layout kohya/);
});

test("several files with --json are a list; one that cannot be read does not hide the others", async () => {
  await writeFile(folder.at("text.txt"), "hello, this is a text and no picture");
  const ended = await qedit(["inspect", "text.txt", "out.png", "--json"], { cwd: here });
  expect(JSON.parse(ended.stdout)).toMatchObject([{ file: "out.png" }]);
  expect(ended.code).toBe(2);
  expect(ended.stderr).toContain("error: Cannot tell what text.txt is");
});

test("nothing but an error is said of what is no file, empty or cut off", async () => {
  await writeFile(folder.at("empty.png"), "");
  await writeFile(folder.at("cut.png"), (await readFile(folder.at("out.png"))).subarray(0, 20));
  expectRefusal(await qedit(["inspect", "nowhere.png"], { cwd: here }), {
    code: 1,
    message: /nowhere\.png: it does not exist/,
  });
  expectRefusal(await qedit(["inspect", "empty.png"], { cwd: here }), { code: 2, message: /the file is empty/ });
  expectRefusal(await qedit(["inspect", "cut.png"], { cwd: here }), { code: 2, message: /cut\.png/ });
});
