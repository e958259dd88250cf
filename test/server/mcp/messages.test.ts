// What goes over the wire of `qedit mcp`: whole lines in, bounded pictures out, progress that only grows.
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import sharp from "sharp";
import { expect, test } from "vitest";
import { encodePicture } from "../../../src/image/io/write.js";
import { editProgress } from "../../../src/server/mcp/edit-progress.js";
import { messageLines } from "../../../src/server/mcp/message-lines.js";
import { shownPicture } from "../../../src/server/mcp/shown-result.js";
import type { ProgressEvent } from "../../../src/std/events.js";

const MEGABYTE = 1024 ** 2;

function noise(width: number, height: number) {
  return { width, height, data: new Uint8Array(randomBytes(width * height * 3)) };
}

test("lines come whole, whatever pieces they were in; one that is too long is dropped, and the next comes", async () => {
  const dropped: string[] = [];
  const whole = `first\n\n${"x".repeat(99)}\n${"y".repeat(300)}\nlast\nnot ended`;
  for (const size of [1, 7, 64, 1000]) {
    const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, index) =>
      Buffer.from(whole.slice(index * size, (index + 1) * size)),
    );
    const lines = messageLines(Readable.from(pieces, { objectMode: false }), 100, (each) => dropped.push(each));
    expect(await text(lines)).toBe(`first\n\n${"x".repeat(99)}\nlast\n`);
  }
  expect(dropped).toEqual(Array(4).fill("a message of more than 100 bytes was dropped"));
});

test("a line of 64 MB in pieces as a pipe gives them takes under two seconds", async () => {
  const pieces = [...Array.from({ length: 1024 }, () => Buffer.alloc(65_536, 0x20)), Buffer.from("\n")];
  const start = performance.now();
  let length = 0;
  for await (const part of messageLines(Readable.from(pieces), 2 ** 30, () => {})) length += (part as Buffer).length;
  expect(length).toBe(64 * MEGABYTE + 1);
  expect(performance.now() - start).toBeLessThan(2000);
});

test("a picture of up to a megabyte is the file itself, a larger one a JPEG of at most as much", async () => {
  const small = await encodePicture(noise(100, 80), { format: "webp" });
  expect(await shownPicture(small, "image/webp")).toEqual({
    data: Buffer.from(small).toString("base64"),
    mimeType: "image/webp",
    isWhole: true,
  });
  const large = await encodePicture(noise(1600, 800), { format: "png" });
  expect(large.length).toBeGreaterThan(MEGABYTE);
  const { data, mimeType, isWhole } = await shownPicture(large, "image/png");
  const bytes = Buffer.from(data, "base64");
  expect([mimeType, isWhole]).toEqual(["image/jpeg", false]);
  expect(bytes.length).toBeLessThanOrEqual(MEGABYTE);
  const { format, width = 0, height } = await sharp(bytes).metadata();
  expect([format, width / 2]).toEqual(["jpeg", height]);
});

test("progress only grows, names every step, and stays below 100, with cached stages and thousands of steps", () => {
  for (const [total, stages] of [
    [1, ["encode-image", "encode-prompt", "sample", "decode"]],
    [10_000, ["sample", "decode"]],
  ] as const) {
    const said: [number, string][] = [];
    const report = editProgress((share, message) => said.push([share, message]));
    const send = (event: ProgressEvent) => report({ kind: "progress", event });
    for (const stage of stages) {
      send({ kind: "start", stage });
      for (let i = 0; i < 30; i += 1) send({ kind: "activity", text: `${stage} ${i}` });
      if (stage !== "sample") continue;
      for (let step = 0; step <= total; step += 1) send({ kind: "step", step, total, seconds: 1 });
    }
    const shares = said.map(([share]) => share);
    expect(shares.every((share, index) => index === 0 || share > shares[index - 1]!)).toBe(true);
    expect(shares.at(-1)).toBeLessThan(100);
    expect(said.filter(([, message]) => message.startsWith("sample ") && message.includes("/"))).toHaveLength(total);
  }
});
