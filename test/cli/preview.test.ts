// Previews while a picture is sampled: what the file shows, and that the result does not depend on them.
import { readFileSync, writeFileSync } from "node:fs";
import sharp from "sharp";
import { expect, test } from "vitest";
import { fitLatentToRgb, previewOf, publishedLatentToRgb } from "../../src/edit/finish/latent-preview.js";
import { readImage } from "../../src/image/io/read.js";
import { latentStatistics } from "../../src/models/vaes.js";
import { float32 } from "../../src/std/tensor.js";
import { CAT, expectRefusal, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = ["run", CAT, "-p", "make it upside down", "--model", "tiny", "--device", "cpu", "--threads", "1"];
const SMALL = [...RUN, "--size", "192x128", "--no-cache"];

async function pixels(path: string): Promise<{ data: Buffer; width: number; height: number }> {
  const { data, info } = await sharp(readFileSync(folder.at(path)))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

function correlation(a: Buffer, b: Buffer): number {
  const mean = (values: Buffer) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i += 1) {
    ab += (a[i]! - ma) * (b[i]! - mb);
    aa += (a[i]! - ma) ** 2;
    bb += (b[i]! - mb) ** 2;
  }
  return ab / Math.sqrt(aa * bb);
}

test("the file shows what is made, which is the same without it", async () => {
  const plain = await qedit([...SMALL, "-o", "plain.png"], here);
  const shown = await qedit([...SMALL, "-o", "shown.png", "--preview", "now.png"], here);
  expect([plain.code, shown.code], shown.stderr).toEqual([0, 0]);
  expect(readFileSync(folder.at("shown.png")).equals(readFileSync(folder.at("plain.png")))).toBe(true);

  const preview = await pixels("now.png");
  expect([preview.width, preview.height]).toEqual([96, 64]);
  const result = await sharp(readFileSync(folder.at("shown.png")))
    .removeAlpha()
    .resize(96, 64)
    .raw()
    .toBuffer();
  const original = await sharp(readFileSync(CAT)).resize(96, 64, { fit: "fill" }).raw().toBuffer();
  expect(correlation(preview.data, result)).toBeGreaterThan(0.9);
  expect(correlation(preview.data, result)).toBeGreaterThan(correlation(preview.data, original) + 0.2);
});

test("a preview of several seeds is of the last, and a batch of steps leaves one whole file", async () => {
  const { code, stdout } = await qedit([...SMALL, "--count", "2", "-o", "two.png", "--preview", "two.webp"], here);
  expect([code, stdout]).toEqual([0, "two-seed0.png\ntwo-seed1.png\n"]);
  expect((await sharp(readFileSync(folder.at("two.webp"))).metadata()).format).toBe("webp");
});

test.each([
  ["a file that is there", "taken.png", /Cannot write taken\.png: it is there already/],
  ["stdout", "-", /Cannot write previews to stdout/],
  ["a name that is no picture's", "now.txt", /Cannot tell the picture format of now\.txt/],
])("refuses %s", async (_, path, message) => {
  writeFileSync(folder.at("taken.png"), "mine");
  expectRefusal(await qedit([...SMALL, "-o", "refused.png", "--preview", path], here), { code: 2, message });
  expect(readFileSync(folder.at("taken.png"), "utf8")).toBe("mine");
});

test("the map of a linear VAE is found, and of a grey picture stays near that of the VAE's family", async () => {
  const statistics = latentStatistics(16);
  const [width, height] = [24, 16];
  const image = await readImage(
    await sharp(readFileSync(CAT)).resize(width, height, { fit: "fill" }).png().toBuffer(),
    "cat",
  );
  const cells = width * height;
  const latentOf = (data: Uint8Array) =>
    float32(
      [1, 16, height, width],
      Float32Array.from({ length: 16 * cells }, (_, index) => {
        const [channel, cell] = [Math.floor(index / cells), index % cells];
        const normalised = channel < 3 ? data[cell * 3 + channel]! / 64 - 2 : Math.sin(index * 7.3);
        return normalised * statistics.std[channel]! + statistics.mean[channel]!;
      }),
    );
  const normalised = (latent: ReturnType<typeof latentOf>) => ({
    ...latent,
    data: latent.data.map(
      (value, index) =>
        (value - statistics.mean[Math.floor(index / cells)]!) / statistics.std[Math.floor(index / cells)]!,
    ),
  });
  const latent = latentOf(image.data);
  const preview = previewOf(normalised(latent), fitLatentToRgb(latent, statistics, image));
  expect([preview.width, preview.height]).toEqual([4 * width, 4 * height]);
  const back = await sharp(preview.data, { raw: { width: 4 * width, height: 4 * height, channels: 3 } })
    .resize(width, height, { kernel: "cubic" })
    .raw()
    .toBuffer();
  expect(correlation(back, Buffer.from(image.data))).toBeGreaterThan(0.98);

  const grey = { width, height, data: new Uint8Array(cells * 3).fill(128) };
  const map = fitLatentToRgb(latentOf(grey.data), statistics, grey);
  expect(map.flat().every(Number.isFinite)).toBe(true);
});

test("without a picture a latent of 64 channels has the colours of Qwen-Image-2.1's factors", () => {
  const map = publishedLatentToRgb(64);
  expect(map).toHaveLength(65);
  const latent = float32([1, 64, 2, 2]);
  // Channel 41: 0.1484, 0.0801, 0.0804 for each deviation, beside -0.1228, -0.1869, -0.3083.
  latent.data.fill(2, 41 * 4, 42 * 4);
  const { data, width } = previewOf(latent, map);
  expect(width).toBe(8);
  const colour = (factor: number, bias: number) => Math.round((2 * factor + bias + 1) * 127.5);
  expect([...data.subarray(0, 3)]).toEqual([colour(0.1484, -0.1228), colour(0.0801, -0.1869), colour(0.0804, -0.3083)]);
});
