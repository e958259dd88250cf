// What a whole edit gives: the same numbers whichever way it is run, the pixels that were promised, and clean streams.
import { readFile } from "node:fs/promises";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { readArtifact } from "../../src/artifacts/artifact.js";
import { CAT, LORA, models, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";

const folder = workFolder();
// Every way computes for itself: a result from the cache would prove nothing.
const here = { cwd: folder.path, env: { QEDIT_NO_CACHE: "1" } };
const SMALL = [...QUICK, "--megapixels", "0.01"];
const EDIT = ["run", CAT, "-p", "make it red", ...models(), ...QUICK, "--steps", "2"];
const ONE_PICTURE = [...EDIT, "--megapixels", "0.01", "--cfg", "1", "--seed", "7"];

/** Several processes, on a busy machine: milliseconds. */
const SLOW = 120_000;

const bytes = (name: string) => readFile(folder.at(name));

const pixels = (name: string) => sharp(folder.at(name)).raw().toBuffer();

async function sizeOf(name: string): Promise<string> {
  const { format, width, height } = await sharp(folder.at(name)).metadata();
  return `${format} ${width}x${height}`;
}

async function done(args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await qedit(args, here);
  expect(code, stderr).toBe(0);
  return { stdout, stderr };
}

describe.each([
  { name: "cfg 1", cfg: ["--cfg", "1"], negative: [] },
  { name: "cfg 2.5 with a negative prompt", cfg: ["--cfg", "2.5"], negative: ["--negative-prompt", "blurry, dark"] },
])("two pictures and a LoRA at $name", ({ name, cfg, negative }) => {
  const to = (file: string) => `${name.slice(4, 7).trim()}-${file}`;
  const prompt = ["-p", "put the rocket of picture 2 beside the cat", ...negative];
  const sampling = ["--steps", "2", "--seed", "42", ...cfg, "--lora", `${LORA}:0.6`];
  const whole = (output: string) => ["run", CAT, ROCKET, ...prompt, ...models(), ...SMALL, ...sampling, "-o", output];

  beforeAll(async () => {
    await Promise.all([
      done([...whole(to("run.png")), "--keep", to("kept")]),
      done(["encode-image", CAT, ROCKET, ...models({}, ["--vae"]), ...SMALL, "-o", to("latents.safetensors")]),
      done([
        "encode-prompt",
        CAT,
        ROCKET,
        ...prompt,
        ...models({}, ["--text-encoder"]),
        ...QUICK,
        "-o",
        to("cond.safetensors"),
      ]),
    ]);
    await done([
      "sample",
      "--latents",
      to("latents.safetensors"),
      "--cond",
      to("cond.safetensors"),
      ...models({}, ["--transformer"]),
      ...QUICK,
      ...sampling,
      "-o",
      to("samples.safetensors"),
    ]);
    await done(["decode", to("samples.safetensors"), ...models({}, ["--vae"]), ...QUICK, "-o", to("decoded.png")]);
  }, SLOW);

  test.each(["latents", "cond", "samples"])(
    "%s are the same bytes from run --keep and from their own command",
    async (kind) => {
      expect((await bytes(`${to("kept")}/${kind}.safetensors`)).equals(await bytes(to(`${kind}.safetensors`)))).toBe(
        true,
      );
      expect(await readFile(folder.at(`${to("kept")}/${kind}.json`), "utf8")).toBe(
        await readFile(folder.at(to(`${kind}.json`)), "utf8"),
      );
    },
  );

  test("the picture is the same bytes from run and from decode", async () => {
    expect((await bytes(to("run.png"))).equals(await bytes(to("decoded.png")))).toBe(true);
  });
});

describe("one picture", () => {
  let first: { stdout: string; stderr: string };
  let quiet: { stdout: string; stderr: string };
  beforeAll(async () => {
    first = await done([...ONE_PICTURE, "-o", "first.png", "--keep", "kept"]);
    quiet = await done([...ONE_PICTURE, "--quiet", "-o", "again.png"]);
  }, SLOW);

  test("its path is all that stdout holds", () => {
    expect(first.stdout).toBe("first.png\n");
  });

  test("stderr, no terminal, has its size plan and no escape codes", () => {
    expect(first.stderr).toMatch(/cat\.jpg 451x300: reference 144x96 .* → output 144x96\n/);
    expect(first.stderr).not.toMatch(/[\u001b\r]/);
  });

  test("has the size of the plan", async () => {
    expect(await sizeOf("first.png")).toBe("png 144x96");
  });

  test("carries how it was made", async () => {
    const png = await bytes("first.png");
    const start = png.indexOf("iTXtqedit\0\0\0\0\0");
    // A chunk's length stands before its type, and counts neither.
    const end = start + 4 + png.readUInt32BE(start - 4);
    const { settings, inputs } = JSON.parse(png.toString("utf8", start + 14, end));
    expect(settings).toMatchObject({
      sample: { seed: "7", steps: 2, cfg: 1 },
      encode_prompt: { prompt: "make it red" },
    });
    expect(Object.keys(inputs)).toEqual(["image.1"]);
  });

  test("--quiet says nothing on stderr", () => {
    expect(quiet).toEqual({ stdout: "again.png\n", stderr: "" });
  });

  test("a second run gives the same bytes", async () => {
    expect((await bytes("again.png")).equals(await bytes("first.png"))).toBe(true);
  });

  test.concurrent("--json prints one object", async () => {
    const { stdout } = await done([...ONE_PICTURE, "--json", "-o", "json.png"]);
    expect(JSON.parse(stdout)).toMatchObject({
      output: "json.png",
      kind: "picture",
      device: "cpu",
      info: { settings: { sample: { seed: "7" } }, sizes: { target: { size: { width: 144, height: 96 } } } },
      seconds: {
        "encode-image": expect.any(Number),
        "encode-prompt": expect.any(Number),
        sample: expect.any(Number),
        decode: expect.any(Number),
      },
    });
  });

  test.concurrent("a negative prompt at cfg 1 is warned of under --force, even when quiet, and changes nothing", async () => {
    const { stderr } = await done([
      ...ONE_PICTURE,
      "--negative-prompt",
      "dark",
      "--force",
      "--quiet",
      "-o",
      "negative.png",
    ]);
    expect(stderr).toBe("warning: Cannot use a negative prompt at cfg 1: it has no effect\n");
    expect(await pixels("negative.png")).toEqual(await pixels("first.png"));
  });
});

describe.concurrent("sampling", () => {
  const sample = [
    "sample",
    "--latents",
    "kept/latents.safetensors",
    "--cond",
    "kept/cond.safetensors",
    ...models({}, ["--transformer"]),
    ...QUICK,
    "--steps",
    "2",
    "--cfg",
    "1",
    "--seed",
    "7",
  ];
  const latent = async (name: string) =>
    (await readArtifact(folder.at(name), "samples")).tensors["latent_tensor"]!.data;

  test("with the same seed gives the same numbers, with another one others", async () => {
    await done([...sample, "-o", "same.safetensors"]);
    await done([...sample, "--seed", "8", "-o", "other.safetensors"]);
    expect(await latent("same.safetensors")).toEqual(await latent("kept/samples.safetensors"));
    expect(await latent("other.safetensors")).not.toEqual(await latent("kept/samples.safetensors"));
  });

  test("with a LoRA says how much of it matched, and gives other numbers", async () => {
    const { stderr } = await done([...sample, "--lora", LORA, "-o", "lora.safetensors"]);
    expect(stderr).toMatch(
      /^LoRA .*published\.safetensors: matched 24\/24 modules, rank 4, alpha 3, layout kohya, no prefix, strength 1$/m,
    );
    expect(await latent("lora.safetensors")).not.toEqual(await latent("kept/samples.safetensors"));
  });

  test("with a LoRA at strength 0 gives the numbers of none", async () => {
    await done([...sample, "--lora", `${LORA}:0`, "-o", "zero.safetensors"]);
    expect(await latent("zero.safetensors")).toEqual(await latent("kept/samples.safetensors"));
  });
});

describe.concurrent("sizes", () => {
  test.each([
    [["--size", "96x64", "-o", "size.png"], "png 96x64"],
    [["--size", "64x112", "-o", "tall.png"], "png 64x112"],
    [["--megapixels", "0.02", "-o", "larger.png"], "png 192x128"],
    [["--megapixels", "0.005", "--match", "comfyui", "-o", "comfyui.png"], "png 88x56"],
    [["--megapixels", "0.002", "--keep-size", "-o", "kept.png"], "png 451x300"],
  ])("run with %j gives %s", async (options, wanted) => {
    await done([...EDIT, "--cfg", "1", ...options]);
    expect(await sizeOf(options.at(-1)!)).toBe(wanted);
  });
});

describe.concurrent("formats", () => {
  test.each([
    [["-o", "out.jpg"], "jpeg 144x96"],
    [["-o", "out.webp"], "webp 144x96"],
    [["--format", "jpg", "-o", "named-jpg"], "jpeg 144x96"],
    [["--format", "webp", "-o", "in/a/new folder/größe.webp"], "webp 144x96"],
    [["--keep-size", "-o", "original.jpeg"], "jpeg 451x300"],
  ])("decode with %j gives %s", async (options, wanted) => {
    const output = options.at(-1)!;
    expect(
      (await done(["decode", "kept/samples.safetensors", ...models({}, ["--vae"]), ...QUICK, ...options])).stdout,
    ).toBe(`${output}\n`);
    expect(await sizeOf(output)).toBe(wanted);
  });
});

test("without -o the picture lies beside the first one, which stays as it is", async () => {
  const before = await readFile(CAT);
  await sharp(CAT).resize(64, 48).png().toFile(folder.at("small.png"));
  const small = await bytes("small.png");
  const { stdout } = await done([
    "run",
    "small.png",
    "-p",
    "x",
    ...models(),
    ...QUICK,
    "--steps",
    "1",
    "--cfg",
    "1",
    "--size",
    "48x32",
  ]);
  expect(stdout).toBe("small-edit.png\n");
  expect(await sizeOf("small-edit.png")).toBe("png 48x32");
  expect((await bytes("small.png")).equals(small)).toBe(true);
  expect((await readFile(CAT)).equals(before)).toBe(true);
});

test("nothing half-written is left", () => {
  expect(folder.names().filter((name) => name.includes(".tmp"))).toEqual([]);
});

test("nothing is written into the home folder: ONNX Runtime keeps no telemetry", () => {
  expect(folder.names().filter((name) => name.startsWith("."))).toEqual([]);
});
