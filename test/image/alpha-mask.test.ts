import sharp from "sharp";
import { expect, test } from "vitest";
import { maskOfAlpha } from "../../src/image/io/alpha-mask.js";

const drawn = (channels: 3 | 4, background: object) =>
  sharp({ create: { width: 4, height: 2, channels, background } })
    .png()
    .toBuffer();

test("is white where the picture is transparent", async () => {
  const half = { input: await drawn(4, { r: 9, g: 9, b: 9, alpha: 1 }), left: 0, top: 0 };
  const picture = sharp({ create: { width: 8, height: 2, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } });
  const mask = await maskOfAlpha(await picture.composite([half]).png().toBuffer(), "mask.png");
  const { data, info } = await sharp(mask).extractChannel(0).raw().toBuffer({ resolveWithObject: true });
  expect([info.width, info.height, [...data.subarray(0, 8)]]).toEqual([8, 2, [0, 0, 0, 0, 255, 255, 255, 255]]);
});

test.each<[string, 3 | 4, object]>([
  ["without an alpha channel", 3, { r: 255, g: 255, b: 255 }],
  ["whose every pixel is opaque", 4, { r: 255, g: 255, b: 255, alpha: 1 }],
])("a picture %s is refused with what to send", async (_, channels, background) => {
  await expect(maskOfAlpha(await drawn(channels, background), "mask.png")).rejects.toMatchObject({
    code: "QEDIT_E_IMAGE",
    message: "Cannot use mask.png as mask: it is opaque everywhere",
    hint: "Send a PNG that is transparent where the edit belongs",
  });
});
