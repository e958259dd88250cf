// Several pictures of one call: the encoders' results serve all seeds, names are numbered, and a sheet shows them together.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { rewritten } from "../checkpoint/rewrite.js";
import { done, loads, ONCE, TINY } from "./jobs.js";
import { CAT, expectRefusal, FILES, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = ["run", CAT, "-p", "make it red", ...TINY];
const bytes = (name: string) => readFileSync(folder.at(name));

interface Many {
  readonly outputs: readonly {
    readonly output: string;
    readonly seed: string;
    readonly status: string;
    readonly info: { readonly settings: { readonly sample: { readonly seed: string } } };
  }[];
  readonly sheet: string | undefined;
}

describe("--seeds 1,5,9..10", () => {
  let printed: string;
  beforeAll(async () => {
    printed = (
      await done(
        [...RUN, "--seeds", "1,5,9..10", "-o", "many.png", "--sheet", "sheet.png", "--events", "many.ndjson"],
        here,
      )
    ).stdout;
  }, 60_000);

  test("makes a picture for each, named by its seed, and prints their paths", () => {
    expect(printed).toBe("many-seed1.png\nmany-seed5.png\nmany-seed9.png\nmany-seed10.png\n");
    expect(existsSync(folder.at("many.png"))).toBe(false);
  });

  test("opens every network once", () => {
    expect(loads(folder.at("many.ndjson"))).toEqual(ONCE);
  });

  test("makes the pictures that each seed makes alone", async () => {
    await done([...RUN, "--seed", "5", "-o", "five.png"], here);
    expect(bytes("five.png").equals(bytes("many-seed5.png"))).toBe(true);
    expect(bytes("five.png").equals(bytes("many-seed1.png"))).toBe(false);
  });

  test("composes a sheet of the original and all of them", async () => {
    const { width, height } = await sharp(folder.at("sheet.png")).metadata();
    // Five cells as wide as the picture of 384x255: three in a row, two rows, each with a label.
    expect([width, height]).toEqual([3 * (384 + 12) + 12, 2 * (255 + 6 + 14 + 12) + 12]);
  });
});

test("--count 2 --json gives both outputs with their seeds in one object", async () => {
  const { outputs, sheet } = JSON.parse(
    (await done([...RUN, "--count", "2", "--seed", "41", "--json", "-o", "json.png"], here)).stdout,
  ) as Many;
  expect(sheet).toBeUndefined();
  expect(outputs.map(({ output, seed, status, info }) => [output, seed, status, info.settings.sample.seed])).toEqual([
    ["json-seed41.png", "41", "done", "41"],
    ["json-seed42.png", "42", "done", "42"],
  ]);
});

test("--seed random says and records the number it drew, which makes the same picture again", async () => {
  const first = await done([...RUN, "--seed", "random", "--json", "-o", "drawn.png"], here);
  const { seed } = (JSON.parse(first.stdout) as Many["outputs"][number]).info.settings.sample;
  expect(first.stderr).toMatch(new RegExp(`^seed ${seed}$`, "m"));
  await done([...RUN, "--seed", seed, "-o", "redrawn.png"], here);
  expect(bytes("redrawn.png").equals(bytes("drawn.png"))).toBe(true);
});

test("--keep keeps the tensor files of every seed apart", async () => {
  await done([...RUN, "--seeds", "1..2", "-o", "kept.png", "--keep", "tensors"], here);
  for (const place of ["seed1", "seed2"])
    expect(existsSync(folder.at(`tensors/${place}/samples.safetensors`))).toBe(true);
});

describe.concurrent("refuses", () => {
  test.each([
    [["--seeds", "1", "--count", "2"], /Cannot use --seeds and --count at once/],
    [["--seeds", "1", "--seed", "2"], /Cannot use --seeds and --seed at once/],
    [["--seeds", "3,1..4"], /3 is in the list twice/],
    [["--seeds", "4..1"], /Cannot use "4\.\.1" for --seeds/],
    [["--seeds", ""], /Cannot use "" for --seeds/],
    [["--seeds", "1..99999999"], /for --seeds/],
    [["--seeds", "1,2", "-o", "-"], /Cannot use -o - and several seeds at once/],
    [["--count", "0"], /Cannot use "0" for --count/],
    [["--sheet", "sheet.gif"], /sheet\.gif/],
  ])("%j", async (options, message) => {
    expectRefusal(await qedit([...RUN, ...options], here), { code: 2, message });
  });

  test("a numbered picture that is there already", async () => {
    await done([...RUN, "--count", "2", "-o", "there.png"], here);
    expectRefusal(await qedit([...RUN, "--count", "3", "-o", "there.png"], here), {
      code: 2,
      message: /Cannot write there-seed0\.png: it is there already/,
    });
  });
});

test("samples of a picture that came out flat are kept, and the hint decodes them again", async () => {
  // The decoder's last weights are gone, so that it paints one colour.
  const vae = await rewritten(await readSafetensors(FILES["--vae"]), {
    folder: folder.path,
    file: "flat.safetensors",
    keepMetadata: true,
  });
  const checkpoint = await readSafetensors(vae);
  const file = readFileSync(vae);
  for (const name of ["decoder.head.2.weight", "decoder.head.2.bias"]) {
    const { offset, length } = checkpoint.tensors.get(name)!;
    file.fill(0, offset, offset + length);
  }
  writeFileSync(vae, file);
  const options = ["--size", "48x32", "--steps", "1", "--cfg", "1", ...QUICK];
  const ended = await qedit(
    ["run", CAT, "-p", "x", ...models({ "--vae": "flat.safetensors" }), ...options, "-o", "my flat.png"],
    here,
  );
  expectRefusal(ended, {
    code: 5,
    message: /one flat colour/,
    hint: /qedit decode 'my flat-samples\.safetensors' --vae flat\.safetensors -o 'my flat\.png'$/,
  });
  expect(existsSync(folder.at("my flat.png"))).toBe(false);
  await done(["decode", "my flat-samples.safetensors", ...models({}, ["--vae"]), ...QUICK, "-o", "my flat.png"], here);
  expect((await sharp(folder.at("my flat.png")).metadata()).width).toBe(48);
});
