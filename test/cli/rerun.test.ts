// A picture made again from its recipe: found files, checked hashes, changed settings, and what differs.
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { CAT, expectRefusal, FILES, LORA, models, QUICK, qedit, ROCKET, workFolder } from "./qedit.js";
import { catIn, memoryOf, QUICK_EDIT, succeed } from "./recipes.js";

const folder = workFolder();
const here = folder.path;

/** Several processes, on a busy machine: milliseconds. */
const SLOW = 180_000;

/** A home of its own: nothing is remembered there. */
const withMemory = { cwd: here, env: memoryOf(here) };
const elsewhere = (name: string) => ({ XDG_STATE_HOME: folder.at(name) });

const pixels = (name: string) => sharp(folder.at(name)).raw().toBuffer();

async function expectSamePixels(a: string, b: string): Promise<void> {
  expect((await pixels(a)).equals(await pixels(b))).toBe(true);
}

beforeAll(async () => {
  const cat = catIn(here);
  await Promise.all([
    succeed(["run", cat, ...QUICK_EDIT, "-o", "out.png"], here),
    succeed(
      [
        "run",
        cat,
        ROCKET,
        ...QUICK_EDIT,
        "--cfg",
        "2.5",
        "--negative-prompt",
        "dark",
        "--lora",
        `${LORA}:0.6`,
        "--keep-size",
        "--match",
        "comfyui",
        "-o",
        "rich/rich.png",
      ],
      here,
    ),
  ]);
}, SLOW);

describe("without changes, on the machine where it was made", () => {
  test("needs no other argument and gives the same pixels and recipe", async () => {
    const { stdout, stderr } = await succeed(["rerun", "out.png"], here);
    expect(stdout).toBe("out-rerun.png\n");
    expect(stderr).toContain("against out.png: pixels: identical");
    expect(stderr).not.toContain("differs:");
    expect((await readFile(folder.at("out-rerun.png"))).equals(await readFile(folder.at("out.png")))).toBe(true);
  });

  test("does so for two pictures, a LoRA, guidance and sizes", async () => {
    const { stderr } = await succeed(["rerun", "rich/rich.png", "-o", "rich-again.png"], here);
    expect(stderr).toContain("against rich/rich.png: pixels: identical");
    await expectSamePixels("rich-again.png", "rich/rich.png");
  });

  test.each([
    ["jpg", "--jpeg-quality"],
    ["webp", "--webp-quality"],
  ])(
    "writes %s in the quality of the recipe unless another is given, which is then named",
    async (format, flag) => {
      const name = `rough.${format}`;
      await succeed(["run", "photos/cat.jpg", ...QUICK_EDIT, flag, "30", "-o", name], here);
      const same = await succeed(["rerun", name, "-o", `same-${name}`], here);
      expect(same.stderr).toMatch(/pixels: identical/);
      expect((await readFile(folder.at(`same-${name}`))).equals(await readFile(folder.at(name)))).toBe(true);
      const finer = await succeed(["rerun", name, flag, "80", "-o", `finer-${name}`], here);
      expect(finer.stderr).toContain("differs: settings write.quality: 30 → 80");
      expect((await succeed(["diff", name, `finer-${name}`], here)).stdout).toMatch(/write\.quality +30 +80/);
      const whole = await succeed(["rerun", name, "-o", `${name}.png`], here);
      expect(whole.stderr).toMatch(/differs: settings write\.quality: 30 → /);
    },
    SLOW,
  );

  test(
    "does so from jpg and webp, as which the result is written too",
    async () => {
      for (const name of ["lossy.jpg", "lossy.webp"]) {
        await succeed(["run", "photos/cat.jpg", ...QUICK_EDIT, "-o", name], here);
        const again = name.replace(".", "-rerun.");
        expect((await succeed(["rerun", name], here)).stdout).toBe(`${again}\n`);
        await expectSamePixels(again, name);
      }
    },
    SLOW,
  );

  test(
    "does so after a mask was pasted back",
    async () => {
      const mask = await sharp({ create: { width: 451, height: 300, channels: 3, background: "black" } })
        .composite([
          { input: { create: { width: 200, height: 100, channels: 3, background: "white" } }, left: 50, top: 60 },
        ])
        .png()
        .toBuffer();
      await writeFile(folder.at("mask.png"), mask);
      await succeed(
        [
          "run",
          "photos/cat.jpg",
          ...QUICK_EDIT,
          "--keep-size",
          "--paste-back",
          "--mask",
          "mask.png",
          "-o",
          "masked.png",
        ],
        here,
      );
      const { stderr } = await succeed(["rerun", "masked.png", "-o", "masked-again.png"], here);
      expect(stderr).toContain("pixels: identical");
    },
    SLOW,
  );

  test("never replaces a picture unasked", async () => {
    await writeFile(folder.at("taken.png"), "mine");
    expectRefusal(await qedit(["rerun", "out.png", "-o", "taken.png"], withMemory), {
      code: 2,
      message: /taken\.png: it is there already/,
    });
  });
});

describe("with --set", () => {
  test(
    "gives what run gives with that option, and says what differs",
    async () => {
      await succeed(["run", "photos/cat.jpg", ...QUICK_EDIT.slice(0, -1), "8", "-o", "eight.png"], here);
      const { stderr, stdout } = await succeed(
        ["rerun", "out.png", "--set", "seed=8", "-o", "eight-again.png", "--json"],
        here,
      );
      expect(stderr).toContain("differs: settings sample.seed: 7 → 8");
      expect(JSON.parse(stdout)).toMatchObject({
        original: "out.png",
        pixels: { identical: false, psnr: expect.any(Number) },
        differences: expect.arrayContaining([{ group: "settings", what: "sample.seed", a: "7", b: "8" }]),
      });
      await expectSamePixels("eight-again.png", "eight.png");
    },
    SLOW,
  );

  test("takes several, switches, and sizes in place of megapixels", async () => {
    await succeed(
      ["rerun", "out.png", "--set", "size=96x64", "--set", "steps=1", "--set", "keep-size=true", "-o", "sized.png"],
      here,
    );
    expect(await sharp(folder.at("sized.png")).metadata()).toMatchObject({ width: 451, height: 300 });
    expect((await succeed(["inspect", "sized.png"], here)).stdout).toMatch(/1 steps[^]*size: 96x64/);
  });

  test("an empty value is the default: no LoRA", async () => {
    await succeed(["rerun", "rich/rich.png", "--set", "lora=", "-o", "plain.png"], here);
    expect((await succeed(["inspect", "plain.png"], here)).stdout).not.toContain("LoRA");
  });

  test.each([
    [["--set", "sed=8"], /no such option/, /Did you mean --set seed=8\?/],
    [["--set", "seed"], /KEY=VALUE is wanted/, /--set seed=7/],
    [["--set", "steps=many"], /Cannot use "many" for --steps/, undefined],
    [["--set", "output=x.png"], /no such option/, undefined],
    [["-", "--set", "paste-back=1", "--set", "mask=-"], /Cannot read 2 inputs from stdin/, undefined],
  ])("%j is refused", async (args, message, hint) => {
    expectRefusal(await qedit(["rerun", "out.png", ...args, "-o", "no.png"], withMemory), {
      code: 2,
      message,
      ...(hint && { hint }),
    });
  });
});

describe("where nothing is remembered", () => {
  const weights = models();

  test("pictures beside the result and named weights serve", async () => {
    await mkdir(folder.at("moved"));
    await copyFile(folder.at("out.png"), folder.at("moved/out.png"));
    await copyFile(CAT, folder.at("moved/cat.jpg"));
    await succeed(["rerun", "moved/out.png", ...weights], here, elsewhere("none-1"));
    await expectSamePixels("moved/out-rerun.png", "out.png");
  });

  test("weights are found by name in a folder of models, under other names by nothing else", async () => {
    await mkdir(folder.at("models/vae"), { recursive: true });
    for (const [option, name] of [
      ["--vae", "vae/vae"],
      ["--text-encoder", "text-encoder"],
      ["--transformer", "transformer"],
    ] as const) {
      await copyFile(FILES[option], folder.at(`models/${name}.safetensors`));
    }
    await succeed(["rerun", "out.png", CAT, "--models-dir", "models", "-o", "by-name.png"], here, elsewhere("none-2"));
    await expectSamePixels("by-name.png", "out.png");
  });

  test("a renamed picture is told by its hash", async () => {
    await copyFile(CAT, folder.at("katze.jpg"));
    await succeed(["rerun", "out.png", "katze.jpg", ...weights, "-o", "by-hash.png"], here, elsewhere("none-3"));
    await expectSamePixels("by-hash.png", "out.png");
  });

  test("what is missing is named, with the flag that names it", async () => {
    const surroundings = { cwd: here, env: elsewhere("none-4") };
    expectRefusal(await qedit(["rerun", "out.png", CAT, "-o", "no.png"], surroundings), {
      code: 3,
      message: /Cannot find the VAE that made out\.png: vae\.safetensors \(identity [0-9a-f]{12}…\)/,
      hint: /--vae FILE/,
    });
    expectRefusal(await qedit(["rerun", "out.png", ...weights, "-o", "no.png"], surroundings), {
      code: 2,
      message: /Cannot find picture 1 of out\.png: cat\.jpg \(sha256 [0-9a-f]{12}…\)/,
      hint: /qedit rerun out\.png FILE/,
    });
  });

  test("other weights and other pictures are refused, and taken with --force", async () => {
    const surroundings = { cwd: here, env: elsewhere("none-5") };
    const other = models({ "--vae": FILES["--vae"].replace("vae.safetensors", "vae-fp32.safetensors") });
    expectRefusal(await qedit(["rerun", "out.png", CAT, ...other, "-o", "no.png"], surroundings), {
      code: 3,
      message: /vae-fp32\.safetensors: it is not the VAE that made out\.png/,
      hint: /--force/,
    });
    expectRefusal(await qedit(["rerun", "out.png", ROCKET, ...weights, "-o", "no.png"], surroundings), {
      code: 2,
      message: /rocket\.jpg: out\.png was made from other pictures, cat\.jpg/,
      hint: /--force/,
    });
    const { stderr } = await succeed(
      ["rerun", "out.png", ROCKET, ...weights, "--force", "-o", "forced.png"],
      here,
      elsewhere("none-5"),
    );
    expect(stderr).toMatch(/differs: inputs image\.1/);
  });

  test("a picture that changed since is refused", async () => {
    await mkdir(folder.at("changed"));
    await copyFile(folder.at("out.png"), folder.at("changed/out.png"));
    await copyFile(ROCKET, folder.at("changed/cat.jpg"));
    expectRefusal(await qedit(["rerun", "changed/out.png", ...weights], { cwd: here, env: elsewhere("none-6") }), {
      code: 2,
      message: /changed\/cat\.jpg is another file now/,
    });
  });
});

describe("pictures that cannot be made again", () => {
  test("one without a recipe", async () => {
    expectRefusal(await qedit(["rerun", CAT], withMemory), {
      code: 2,
      message: /Cannot find a recipe in .*cat\.jpg/,
      hint: /qedit inspect/,
    });
    await succeed(["run", "photos/cat.jpg", ...QUICK_EDIT, "--no-metadata", "-o", "bare.png"], here);
    expectRefusal(await qedit(["rerun", "bare.png"], withMemory), {
      code: 2,
      message: /Cannot find a recipe in bare\.png/,
    });
    expectRefusal(await qedit(["rerun", "nowhere.png"], withMemory), { code: 2, message: /there is no such file/ });
  });

  test(
    "one whose prompt saw other pictures",
    async () => {
      await Promise.all([
        succeed(
          [
            "encode-image",
            "photos/cat.jpg",
            ...models({}, ["--vae"]),
            ...QUICK,
            "--megapixels",
            "0.01",
            "-o",
            "latents.safetensors",
          ],
          here,
        ),
        succeed(
          ["encode-prompt", ROCKET, "-p", "x", ...models({}, ["--text-encoder"]), ...QUICK, "-o", "cond.safetensors"],
          here,
        ),
      ]);
      await succeed(
        [
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
          "-o",
          "samples.safetensors",
        ],
        here,
      );
      await succeed(["decode", "samples.safetensors", ...models({}, ["--vae"]), ...QUICK, "-o", "mixed.png"], here);
      expectRefusal(await qedit(["rerun", "mixed.png"], withMemory), {
        code: 2,
        message: /Cannot make mixed\.png again in one go: its prompt was encoded with other pictures/,
      });
    },
    SLOW,
  );

  test("one whose recipe asks for what no option takes", async () => {
    const png = await readFile(folder.at("out.png"));
    // The same length keeps the chunk whole; readers of text do not look at its checksum.
    await writeFile(
      folder.at("hostile.png"),
      Buffer.from(png.toString("latin1").replace('"steps":2', '"steps":-'), "latin1"),
    );
    const text = png.toString("latin1").replace('"sampler":"euler"', '"sampler":"evil!"');
    await writeFile(folder.at("evil.png"), Buffer.from(text, "latin1"));
    expectRefusal(await qedit(["rerun", "hostile.png"], withMemory), { code: 2, message: /Cannot find a recipe/ });
    expectRefusal(await qedit(["rerun", "evil.png", "-o", "no.png"], withMemory), {
      code: 2,
      message: /Cannot use "evil!" for --sampler/,
    });
  });
});

test("files and devices of the user's settings are places to look at, not wishes", async () => {
  const env = {
    ...elsewhere("none-7"),
    QEDIT_VAE: FILES["--vae"],
    QEDIT_TEXT_ENCODER: FILES["--vae"],
    QEDIT_LORA: LORA,
    QEDIT_DEVICE: "cuda",
    QEDIT_STEPS: "9",
  };
  await succeed(
    ["rerun", "out.png", CAT, ...models({}, ["--text-encoder", "--transformer"]), "-o", "settled.png"],
    here,
    env,
  );
  await expectSamePixels("settled.png", "out.png");
});

test("a result taken from the cache is recorded with the names of this run's own files", async () => {
  const env = { XDG_CACHE_HOME: folder.at("cache") };
  await copyFile(CAT, folder.at("tom.jpg"));
  await succeed(["run", "photos/cat.jpg", ...QUICK_EDIT, "-o", "cached-1.png"], here, env);
  await succeed(["run", "tom.jpg", ...QUICK_EDIT, "-o", "cached-2.png"], here, env);
  expect((await succeed(["inspect", "cached-2.png"], here)).stdout).toContain("picture 1: tom.jpg");
});

test("a state folder that cannot be written is no hindrance", async () => {
  await writeFile(folder.at("file"), "");
  await succeed(["run", "photos/cat.jpg", ...QUICK_EDIT, "-o", "stateless.png"], here, {
    XDG_STATE_HOME: folder.at("file"),
  });
  await rm(folder.at("stateless.png"));
});
