// Files that cannot be used: each is refused in one line with the right exit code, before anything is computed, and leaves nothing behind.
import { chmod, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { type Artifact, encodeArtifact } from "../../src/artifacts/artifact.js";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { encodeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { float32 } from "../../src/std/tensor.js";
import { fixture } from "../support/golden.js";
import { CAT, expectRefusal, FILES, LORA, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const EDIT = ["run", CAT, "-p", "x", ...QUICK, "--megapixels", "0.005", "--steps", "1", "--cfg", "1", "-o", "out.png"];

// A safetensors file with only some of another's tensors, or with other bytes in them.
async function variant(
  name: string,
  source: string,
  change: (key: string, bytes: Buffer) => Uint8Array | undefined,
): Promise<void> {
  const whole = await readFile(source);
  const { tensors, metadata } = await readSafetensors(source);
  const header: Record<string, unknown> = { __metadata__: metadata };
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [key, { dtype, shape, offset, length }] of tensors) {
    const bytes = change(key, whole.subarray(offset, offset + length));
    if (bytes === undefined) continue;
    header[key] = { dtype, shape, data_offsets: [end, (end += bytes.length)] };
    parts.push(bytes);
  }
  const json = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  await writeFile(folder.at(name), Buffer.concat([size, json, ...parts]));
}

const INFO = { settings: {}, sizes: {}, inputs: {}, weights: {} };
const ARTIFACTS: Readonly<Record<string, Artifact>> = {
  latents: {
    kind: "latents",
    info: INFO,
    tensors: { latent: float32([1, 16, 4, 6]), "reference_latents.0": float32([1, 16, 4, 6]) },
  },
  cond: { kind: "cond", info: INFO, tensors: { prompt_embeds: float32([1, 5, 16]) } },
  wide: { kind: "cond", info: INFO, tensors: { prompt_embeds: float32([1, 5, 24]) } },
  samples: { kind: "samples", info: INFO, tensors: { latent_tensor: float32([1, 16, 4, 6]) } },
  narrow: { kind: "samples", info: INFO, tensors: { latent_tensor: float32([1, 4, 4, 6]) } },
};

beforeAll(async () => {
  const vae = await readFile(FILES["--vae"]);
  const photo = await readFile(CAT);
  await Promise.all([
    writeFile(folder.at("text.png"), "not a picture"),
    writeFile(folder.at("empty.png"), ""),
    writeFile(folder.at("cut.jpg"), photo.subarray(0, photo.length / 2)),
    mkdir(folder.at("folder.png")),
    writeFile(folder.at("header-cut.safetensors"), vae.subarray(0, 3000)),
    writeFile(folder.at("data-cut.safetensors"), vae.subarray(0, -1)),
    writeFile(folder.at("hostile.safetensors"), Buffer.concat([Buffer.alloc(8, 0x7f), Buffer.from("{}")])),
    writeFile(folder.at("junk.safetensors"), "hello, world, this is no model at all"),
    writeFile(folder.at("empty.safetensors"), ""),
    variant("blind.safetensors", FILES["--text-encoder"], (key, bytes) =>
      key.startsWith("visual.") ? undefined : bytes,
    ),
    variant("headless.safetensors", FILES["--vae"], (key, bytes) =>
      key === "decoder.head.2.weight" ? undefined : bytes,
    ),
    // bfloat16 0x7fc0 is NaN.
    variant("nan.safetensors", FILES["--vae"], (key, bytes) =>
      key === "conv1.bias" || key === "conv2.bias" ? Buffer.alloc(bytes.length, Buffer.of(0xc0, 0x7f)) : bytes,
    ),
    variant("flat.safetensors", FILES["--vae"], (key, bytes) =>
      key.startsWith("decoder.head.2.") ? Buffer.alloc(bytes.length) : bytes,
    ),
    // 0x7e00 is a NaN of both 16-bit types.
    variant("nan-lora.safetensors", LORA, (key, bytes) =>
      key.endsWith("0.attn.to_q.lora_up.weight")
        ? Buffer.alloc(bytes.length, bytes.length % 4 === 0 ? Buffer.of(0, 0, 0xc0, 0x7f) : Buffer.of(0, 0x7e))
        : bytes,
    ),
    variant("idle-lora.safetensors", LORA, (key, bytes) =>
      key.endsWith("0.attn.to_q.alpha") ? Buffer.alloc(bytes.length) : bytes,
    ),
    variant("partial.safetensors", LORA, (key, bytes) => (key.includes("transformer_blocks.0.") ? bytes : undefined)),
    writeFile(
      folder.at("foreign.safetensors"),
      encodeSafetensors({
        "lora_unet_other.lora_down.weight": float32([2, 3]),
        "lora_unet_other.lora_up.weight": float32([3, 2]),
      }),
    ),
    ...Object.entries(ARTIFACTS).map(([name, artifact]) =>
      writeFile(folder.at(`${name}.safetensors`), encodeArtifact(artifact)),
    ),
  ]);
  const record = JSON.stringify({ kind: "samples", version: 0, ...INFO });
  const marker = { latent_format_version_0: float32([0]) };
  await writeFile(
    folder.at("old.safetensors"),
    encodeSafetensors({ latent_tensor: float32([1, 16, 1, 4, 6]), ...marker }, { qedit: record }),
  );
  await writeFile(
    folder.at("nan-samples.safetensors"),
    encodeSafetensors(
      { latent_tensor: float32([1, 16, 1, 4, 6], new Float32Array(384).fill(NaN, 5)), ...marker },
      { qedit: record.replace("0", "1") },
    ),
  );
  // Without the marker, values are multiplied by 5.5.
  await writeFile(
    folder.at("huge-samples.safetensors"),
    encodeSafetensors({ latent_tensor: float32([1, 16, 4, 6], new Float32Array(384).fill(1e38)) }),
  );
  const samples = ARTIFACTS["samples"]!;
  for (const [name, source, box] of [
    ["endless", { width: 1e5, height: 1e5 }, { x: 0, y: 0, width: 9, height: 9 }],
    ["outside", { width: 30, height: 20 }, { x: 0, y: 0, width: -1, height: 20 }],
  ] as const) {
    const info = { ...samples.info, sizes: { target: { box }, images: [{ source }] } };
    await writeFile(folder.at(`${name}.safetensors`), encodeArtifact({ ...samples, info }));
  }
  const latents = ARTIFACTS["latents"]!;
  const statistics = { mean: Array(16).fill(0), std: Array(16).fill(0) };
  for (const [name, recorded] of [
    ["even", statistics],
    ["few", { mean: [0, 0, 0], std: [1, 1, 1] }],
  ] as const) {
    const info = { ...latents.info, settings: { latent_statistics: recorded } };
    await writeFile(folder.at(`${name}.safetensors`), encodeArtifact({ ...latents, info }));
  }
  await writeFile(folder.at("samples-cut.safetensors"), encodeArtifact(ARTIFACTS["samples"]!).subarray(0, -1));
  before = folder.names();
});

let before: string[];
/** The error and its hint are all that stderr holds: nothing was planned, opened or computed. */
function expectNothingComputed(stderr: string): void {
  expect(stderr).toMatch(/^error: .*\n(  hint: .*\n)?$/);
}

describe.concurrent("pictures", () => {
  test.each([
    ["missing.png", "Cannot read missing.png: there is no such file"],
    ["folder.png", "Cannot read folder.png: it is a directory"],
    ["text.png", /^error: Cannot read text\.png: not a picture that can be decoded/],
    ["empty.png", "Cannot read empty.png: the file is empty"],
    ["cut.jpg", /^error: Cannot decode cut\.jpg: \S/],
  ])("%s", async (picture, message) => {
    for (const command of [
      ["run", CAT, picture, "-p", "x", ...models(), "-o", "out.png"],
      ["encode-image", picture, ...models({}, ["--vae"]), "-o", "out.safetensors"],
    ]) {
      const ended = await qedit([...command, ...QUICK], here);
      expectRefusal(ended, { code: 2, message });
      expectNothingComputed(ended.stderr);
    }
  });
});

describe.concurrent("model files", () => {
  test.each([
    [
      { "--vae": "header-cut.safetensors" },
      /^error: Cannot read header-cut\.safetensors: wanted a header of \d+ bytes/,
    ],
    [{ "--vae": "data-cut.safetensors" }, /^error: Cannot read data-cut\.safetensors: .* it is cut off$/],
    [
      { "--transformer": "hostile.safetensors" },
      /^error: Cannot read hostile\.safetensors: header of \d+ bytes, at most \d+ are allowed/,
    ],
    [{ "--text-encoder": "junk.safetensors" }, /^error: Cannot read junk\.safetensors: header of \d+ bytes/],
    [{ "--transformer": "empty.safetensors" }, /^error: Cannot read empty\.safetensors: the file is empty/],
    [{ "--vae": "missing.safetensors" }, /^error: Cannot find missing\.safetensors$/],
    [{ "--vae": FILES["--transformer"] }, /^error: Cannot .*transformer\.safetensors/],
    [{ "--vae": LORA }, /^error: Cannot .*published\.safetensors/],
    [
      { "--text-encoder": FILES["--transformer"] },
      /^error: Cannot use \S+ as the text encoder: it has no model\.layers/,
    ],
    [{ "--text-encoder": FILES["--vae"] }, /^error: Cannot use \S+ as the text encoder: it has no model\.layers/],
    [{ "--transformer": FILES["--vae"] }, /^error: Cannot use \S+ as the transformer: it has no txt_norm and img_in/],
    [
      { "--transformer": FILES["--text-encoder"] },
      /^error: Cannot use \S+ as the transformer: it has no txt_norm and img_in/,
    ],
    [{ "--transformer": LORA }, /^error: Cannot use \S+ as the transformer: it has no txt_norm and img_in/],
    [
      { "--text-encoder": fixture("tiny/text-encoder-no-vision.safetensors") },
      /^error: Cannot use these model files together: \S+ makes prompt embeddings of 24 numbers, \S+ takes 16/,
    ],
    [
      { "--text-encoder": "blind.safetensors" },
      /^error: Cannot look at pictures: the text encoder file has no vision weights/,
    ],
  ])("run with %j is refused before anything is computed", async (changed, message) => {
    const ended = await qedit([...EDIT, ...models(changed)], here);
    expectRefusal(ended, { code: 3, message, hint: /^  hint: \S/ });
    expectNothingComputed(ended.stderr);
  });

  test("none at all names the first that is missing, and how to say where it lies", async () => {
    const ended = await qedit(EDIT, here);
    expectRefusal(ended, {
      code: 3,
      message: /^error: Cannot find qwen_image_vae\.safetensors \(0\.3 GB\) of model qwen-image-edit-2509 in /,
      hint: /QEDIT_MODELS=/,
    });
  });

  test("with a weight missing inside is refused by name", async () => {
    const ended = await qedit(
      ["decode", "samples.safetensors", "--vae", "headless.safetensors", ...QUICK, "-o", "out.png"],
      here,
    );
    expectRefusal(ended, { code: 3, message: /decoder\.head\.2\.weight.*headless\.safetensors/ });
  });

  test("a text encoder without vision weights reads a prompt without pictures", async () => {
    const { code, stdout } = await qedit(
      ["encode-prompt", "-p", "x", "--text-encoder", "blind.safetensors", ...QUICK, "-o", "blind-cond.safetensors"],
      here,
    );
    expect([code, stdout]).toEqual([0, "blind-cond.safetensors\n"]);
  });
});

describe.concurrent("tensor files between the stages", () => {
  const sample = (latents: string, cond: string) => [
    "sample",
    "--latents",
    latents,
    "--cond",
    cond,
    ...models({}, ["--transformer"]),
    "--steps",
    "1",
    "--cfg",
    "1",
    "-o",
    "out.safetensors",
  ];
  const decode = (samples: string) => ["decode", samples, ...models({}, ["--vae"]), "-o", "out.png"];

  test.each([
    [
      sample("cond.safetensors", "cond.safetensors"),
      2,
      "Cannot use cond.safetensors as latents: it holds cond",
      /qedit encode-image/,
    ],
    [
      sample("latents.safetensors", "samples.safetensors"),
      2,
      "Cannot use samples.safetensors as cond: it holds samples",
      /qedit encode-prompt/,
    ],
    [sample("missing.safetensors", "cond.safetensors"), 2, "Cannot find missing.safetensors", /qedit encode-image/],
    [
      sample("latents.safetensors", "wide.safetensors"),
      2,
      /^error: Cannot use the prompt's embeddings: they are 24 wide, .* takes 16$/,
      /--text-encoder/,
    ],
    [
      [...sample("latents.safetensors", "cond.safetensors"), "--cfg", "2"],
      2,
      "Cannot sample at cfg 2: the prompt was encoded without a negative prompt",
      /--negative-prompt ""/,
    ],
    [
      sample("even.safetensors", "cond.safetensors"),
      2,
      "Cannot use the latents by their record: its latent_statistics are no mean and std of 16 channels",
      /qedit encode-image/,
    ],
    [
      sample("few.safetensors", "cond.safetensors"),
      2,
      "Cannot use the latents by their record: its latent_statistics are no mean and std of 16 channels",
      /qedit encode-image/,
    ],
    [decode("latents.safetensors"), 2, "Cannot use latents.safetensors as samples: it holds latents", /qedit sample/],
    [
      decode("old.safetensors"),
      2,
      "Cannot use old.safetensors as samples: it has version 0, this qedit reads version 1",
      /qedit sample/,
    ],
    [decode("samples-cut.safetensors"), 2, /samples-cut\.safetensors: .* it is cut off$/, /qedit sample/],
    [decode("narrow.safetensors"), 2, /^error: Cannot decode the samples: they have 4 channels, .* takes 16$/, /--vae/],
    [decode(FILES["--vae"]), 2, /vae\.safetensors as samples: it was not written by qedit/, /qedit sample/],
    [decode(CAT), 2, /^error: Cannot read .*cat\.jpg/, /qedit sample/],
    [
      [...decode("samples.safetensors"), "--keep-size"],
      2,
      "Cannot keep the size of picture 1: the samples do not say how large it was",
      /--keep-size/,
    ],
    [
      [...decode("endless.safetensors"), "--keep-size"],
      2,
      "Cannot keep the size of picture 1 by the record of the samples: its sizes have images without a source of up to 178956970 pixels",
      /--keep-size/,
    ],
    [
      [...decode("outside.safetensors"), "--keep-size"],
      2,
      "Cannot keep the size of picture 1 by the record of the samples: its sizes have a target without a box in picture 1",
      /--keep-size/,
    ],
    [
      decode("nan-samples.safetensors"),
      5,
      'Cannot use nan-samples.safetensors as samples: tensor "latent_tensor" holds NaN at element 5',
      /qedit sample/,
    ],
    [
      decode("huge-samples.safetensors"),
      5,
      /Cannot use huge-samples\.safetensors as samples: tensor "latent_tensor" holds \S+ at element 0, more than 1000000/,
      /qedit sample/,
    ],
  ])("%j", async (args, code, message, hint) => {
    expectRefusal(await qedit([...args, ...QUICK], here), { code, message, hint });
  });
});

describe.concurrent("results that are no pictures", () => {
  test("latents that are not numbers end with exit code 5", async () => {
    const ended = await qedit(
      ["encode-image", CAT, "--vae", "nan.safetensors", ...QUICK, "--megapixels", "0.001", "-o", "out.safetensors"],
      here,
    );
    expectRefusal(ended, {
      code: 5,
      message: /^error: Computed the latent of .*cat\.jpg, but element 0 is NaN$/,
      hint: /SHA-256/,
    });
  });

  test("pixels that are not numbers end with exit code 5", async () => {
    const ended = await qedit(
      ["decode", "samples.safetensors", "--vae", "nan.safetensors", ...QUICK, "-o", "out.png"],
      here,
    );
    expectRefusal(ended, {
      code: 5,
      message: /^error: Computed the picture, but it holds NaN or infinity$/,
      hint: /SHA-256/,
    });
  });

  test("a picture of one flat colour ends with exit code 5", async () => {
    const ended = await qedit(
      ["decode", "samples.safetensors", "--vae", "flat.safetensors", ...QUICK, "-o", "out.png"],
      here,
    );
    expectRefusal(ended, { code: 5, message: /^error: Decoded a picture of one flat colour/, hint: /--vae/ });
  });
});

describe.concurrent("LoRAs", () => {
  const sample = [
    "sample",
    "--latents",
    "latents.safetensors",
    "--cond",
    "cond.safetensors",
    ...models({}, ["--transformer"]),
    ...QUICK,
    "--steps",
    "1",
    "--cfg",
    "1",
  ];

  test.each([
    [
      "foreign.safetensors",
      /^error: Cannot match foreign\.safetensors to .*transformer\.safetensors: it holds "lora_unet_other/,
    ],
    [FILES["--vae"], /^error: Cannot match .*vae\.safetensors to .*transformer\.safetensors/],
    ["missing.safetensors:0.5", /^error: Cannot find missing\.safetensors$/],
    ["data-cut.safetensors", /^error: Cannot read data-cut\.safetensors/],
  ])("%s is refused, by run before anything is computed", async (lora, message) => {
    expectRefusal(await qedit([...sample, "--lora", lora, "-o", "out.safetensors"], here), {
      code: 3,
      message,
      hint: /^  hint: \S/,
    });
    const ended = await qedit([...EDIT, ...models(), "--lora", lora], here);
    expectRefusal(ended, { code: 3, message });
    expectNothingComputed(ended.stderr);
  });

  test.each(["strong", "1e400", "-1e400", "1e39"])(
    "a strength that is no number of float32 is refused: %s",
    async (strength) => {
      const ended = await qedit([...EDIT, ...models(), "--lora", `${LORA}:${strength}`], here);
      const message = `error: Cannot use "${strength}" as the strength of a LoRA`;
      expectRefusal(ended, { code: 2, message, hint: /:0\.8/ });
      expectNothingComputed(ended.stderr);
    },
  );

  test("one made for a deeper model is used with a warning, or refused by --strict-lora", async () => {
    const { tensors } = await readSafetensors(LORA);
    const matrices = [...tensors].filter(([key]) => !key.endsWith(".alpha"));
    const zeros = Object.fromEntries(matrices.map(([key, { shape }]) => [key, float32(shape)]));
    await writeFile(
      folder.at("strays.safetensors"),
      encodeSafetensors({ ...zeros, "transformer_blocks.9.attn.to_q.lora_up.weight": float32([24, 4]) }),
    );
    const used = await qedit([...sample, "--lora", "strays.safetensors", "--quiet", "-o", "strayed.safetensors"], here);
    expect(used).toMatchObject({ code: 0, stdout: "strayed.safetensors\n" });
    expect(used.stderr).toMatch(
      /^warning: LoRA strays\.safetensors: 1 keys? not used: "transformer_blocks\.9\.attn\.to_q\.lora_up\.weight"\n$/,
    );
    const strict = await qedit(
      [...sample, "--lora", "strays.safetensors", "--strict-lora", "-o", "out.safetensors"],
      here,
    );
    expectRefusal(strict, { code: 3, message: /strays\.safetensors/ });
  });

  test("one that holds NaN is named, and not the model", async () => {
    const ended = await qedit([...sample, "--lora", "nan-lora.safetensors", "-o", "never.safetensors"], here);
    expectRefusal(ended, {
      code: 3,
      message: /^error: Cannot use nan-lora\.safetensors: "up" of transformer_blocks\.0\.attn\.to_q holds NaN/,
      hint: /--lora/,
    });
  });

  test("one with an alpha of 0, by which nothing is added, is refused", async () => {
    const ended = await qedit([...sample, "--lora", "idle-lora.safetensors", "-o", "never.safetensors"], here);
    expectRefusal(ended, {
      code: 3,
      message: /^error: Cannot use idle-lora\.safetensors: the alpha of transformer_blocks\.0\.attn\.to_q is 0/,
      hint: /--lora/,
    });
  });

  test("one for some of the modules is used, and says for how many", async () => {
    const { code, stderr } = await qedit(
      [...sample, "--lora", "partial.safetensors", "-o", "partly.safetensors"],
      here,
    );
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^LoRA partial\.safetensors: matched 12\/12 modules/m)]);
  });
});

describe.concurrent("outputs", () => {
  test("a folder is refused before anything is computed", async () => {
    const ended = await qedit([...EDIT, ...models(), "-o", "folder.png"], here);
    expectRefusal(ended, { code: 1, message: "error: Cannot write folder.png: it is a folder", hint: /Name a file/ });
    expectNothingComputed(ended.stderr);
  });

  test("a place below a file is refused before anything is computed", async () => {
    const ended = await qedit([...EDIT, ...models(), "-o", "text.png/picture.png"], here);
    expectRefusal(ended, {
      code: 1,
      message: /^error: Cannot write text\.png\/picture\.png: a part of its path is a file, not a folder$/,
    });
    expectNothingComputed(ended.stderr);
  });

  // The superuser may write anywhere.
  test.skipIf(process.getuid?.() === 0)(
    "a folder without permission to write is refused before anything is computed",
    async () => {
      await mkdir(folder.at("locked"));
      await chmod(folder.at("locked"), 0o555);
      const ended = await qedit([...EDIT, ...models(), "-o", "locked/picture.png"], here);
      expectRefusal(ended, { code: 1, message: "error: Cannot write locked/picture.png: permission denied" });
      expectNothingComputed(ended.stderr);
    },
  );

  test("a symbolic link to nowhere is written through", async () => {
    await symlink("target.png", folder.at("link.png"));
    const { code } = await qedit(
      ["decode", "samples.safetensors", ...models({}, ["--vae"]), ...QUICK, "-o", "link.png"],
      here,
    );
    expect([code, (await readFile(folder.at("link.png"))).length > 0]).toEqual([0, true]);
  });
});

test("all of these left nothing but what was asked for", () => {
  const made = folder.names().filter((name) => !before.includes(name));
  const asked = ["blind-cond", "partly", "strayed", "strays", "link", "target"];
  expect(made.filter((name) => !asked.includes(name.replace(/\.(json|safetensors|png)$/, "")))).toEqual([]);
});
