// Whole edits by the tiny models of Qwen-Image-2.1 through the command line, beside those of diffusers' pipeline (fixtures/oracle/qwen_image_2/edit.py).
import { beforeAll, describe, expect, test } from "vitest";
import { readTensor } from "../../src/checkpoint/read-tensor.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { scaledError } from "../parity/table.js";
import { fixture, type Golden, readGolden } from "../support/golden.js";
import { tinyTextEncoder2 } from "../support/tiny-2.js";
import { done } from "./jobs.js";
import { expectRefusal, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
let golden: Golden;
let files: string[];

beforeAll(async () => {
  golden = await readGolden("edits", "tiny-2");
  const textEncoder = await tinyTextEncoder2({ folder: folder.path });
  const [vae, transformer] = ["vae", "transformer"].map((name) => fixture(`tiny-2/${name}.safetensors`));
  files = ["--vae", vae!, "--text-encoder", textEncoder, "--transformer", transformer!];
}, 60_000);

const LEVELS = ["--sigmas", "1,0.8,0.5,0.2", "--seed", "42"];
/** 64² pixels. */
const SMALL = ["--match", "comfyui", "--megapixels", String(64 ** 2 / 1024 ** 2)];

const CASES: Readonly<Record<string, readonly string[]>> = {
  generation: ["-p", "A capybara in a wizard hat", "--size", "96x64", "--cfg", "1"],
  one: ["-p", "Replace the cat with a dalmatian", "--cfg", "1", ...SMALL],
  two: ["-p", "把狗换成猫, wearing the hat of <image2>", "--cfg", "1", ...SMALL],
  three: ["-p", "Put the three of them side by side", "--cfg", "1", ...SMALL],
  ten: ["-p", "A group photo of all ten", "--cfg", "1", ...SMALL],
  guided: ["-p", "Make it winter", "--negative-prompt", "blurry", "--cfg", "2.5", ...SMALL],
};

// Files of the golden pictures of a case, as PNG with their channels.
async function picturesOf(name: string): Promise<string[]> {
  const { default: sharp } = await import("sharp");
  const paths: string[] = [];
  for (let number = 1; golden.names.includes(`${name}.picture_${number}`); number += 1) {
    const { shape, data } = golden.get(`${name}.picture_${number}`);
    const [height, width, channels] = shape as [number, number, 3 | 4];
    const path = folder.at(`${name}-${number}.png`);
    await sharp(Uint8Array.from(data), { raw: { width, height, channels } }).png().toFile(path);
    paths.push(path);
  }
  return paths;
}

describe.each(Object.keys(CASES))("%s", (name) => {
  test("gives the samples and the picture of diffusers' pipeline", async () => {
    const { default: sharp } = await import("sharp");
    const output = folder.at(`${name}.png`);
    const args = [...(await picturesOf(name)), ...files, ...QUICK, ...LEVELS, ...CASES[name]!];
    await done(["run", ...args, "--keep", folder.at(name), "-o", output], here);
    const { tensors } = await readSafetensors(folder.at(`${name}/samples.safetensors`));
    const samples = await readTensor(tensors.get("latent_tensor")!);
    expect(scaledError(samples, golden.get(`${name}.latent_tensor`).data)).toBeLessThan(1e-3);
    const wanted = golden.get(`${name}.image`);
    const { data, info } = await sharp(output).raw().toBuffer({ resolveWithObject: true });
    expect([info.height, info.width, info.channels]).toEqual(wanted.shape);
    expect(Math.max(...data.map((value, index) => Math.abs(value - wanted.data[index]!)))).toBeLessThanOrEqual(1);
  });
});

test("a model that only edits refuses a prompt without a picture", async () => {
  const args = ["run", ...models(), ...QUICK, "-p", "a red bicycle", "-o", "no.png"];
  expectRefusal(await qedit(args, here), { code: 2, message: "No picture was given", hint: /Give at least one/ });
});
