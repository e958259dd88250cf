// Previews on terminals that show pictures: a pseudo-terminal stands for each of them; what it gets is decoded as it would decode it.
import { readFileSync } from "node:fs";
import sharp from "sharp";
import { decode } from "sixel";
import { beforeAll, expect, test } from "vitest";
import { ANY_PICTURE, folder, here, KITTY, kittyPictures, QUERY, RUN, SMALL, shownBy } from "./picture-terminals.js";
import { inTerminal, qedit } from "./qedit.js";

/** A preview has four pixels a cell of the latent. */
const SIZE = [96, 64];

let expected: Buffer;
beforeAll(async () => {
  expected = await rgb(readFileSync(folder.at("last.png")));
});

function rgb(bytes: Uint8Array): Promise<Buffer> {
  return sharp(bytes).removeAlpha().raw().toBuffer();
}

async function sizeOf(bytes: Uint8Array): Promise<(number | undefined)[]> {
  const { width, height } = await sharp(bytes).metadata();
  return [width, height];
}

// Mean difference of two pictures, of 255.
function difference(a: Uint8Array, b: Uint8Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((sum, value, index) => sum + Math.abs(value - b[index]!), 0) / a.length;
}

test("kitty gets a PNG after each step, in one place, and nothing of it stays", async () => {
  const shown = await shownBy(KITTY);
  const pictures = kittyPictures(shown);
  expect(pictures.length).toBeGreaterThanOrEqual(2);
  expect(new Set(pictures.map(({ keys }) => `${keys["i"]} ${keys["r"]}`)).size).toBe(1);
  const last = pictures.at(-1)!;
  expect(last.keys).toMatchObject({ f: "100", C: "1", p: "1" });
  expect(await sizeOf(last.bytes)).toEqual(SIZE);
  // The preview of the last step may come too late.
  expect(difference(await rgb(last.bytes), expected)).toBeLessThan(6);
  // Its rows are made once, and the picture goes before the stage's line is written.
  const rows = Number(last.keys["r"]);
  expect(shown.split("\r\n".repeat(rows))).toHaveLength(2);
  const removed = shown.lastIndexOf(`\u001b_Ga=d,d=I,i=${last.keys["i"]},q=2\u001b\\\r\u001b[${rows}A\u001b[J`);
  expect(removed).toBeGreaterThan(shown.lastIndexOf("a=T"));
  expect(removed).toBeLessThan(shown.indexOf(" sample ", removed));
  expect(shown).not.toContain(QUERY);
});

test("iTerm2 gets a JPEG of as many rows as were made for it", async () => {
  const shown = await shownBy({ TERM_PROGRAM: "iTerm.app" });
  const pictures = [...shown.matchAll(/\u001b\]1337;File=([^:]*):([^\u0007]*)\u0007/g)];
  expect(pictures.length).toBeGreaterThanOrEqual(2);
  const [, facts, payload] = pictures.at(-1)!;
  const bytes = Buffer.from(payload!, "base64");
  const { inline, size, height } = Object.fromEntries(facts!.split(";").map((each) => each.split("=")));
  expect([inline, Number(size)]).toEqual(["1", bytes.length]);
  expect(shown).toContain("\r\n".repeat(Number(height)));
  expect(await sizeOf(bytes)).toEqual(SIZE);
  expect(difference(await rgb(bytes), expected)).toBeLessThan(6);
});

test("a terminal that says that it has sixel gets sixels, over as many cells as they cover", async () => {
  const shown = await shownBy({}, { answer: "\u001b[6;20;10t\u001b[?62;4;9;22c" });
  const pictures = [...shown.matchAll(/\u001bP[\d;]*q([^\u001b]*)\u001b\\/g)];
  expect(pictures.length).toBeGreaterThanOrEqual(2);
  const { width, height, data32 } = decode(pictures.at(-1)![1]!);
  expect([width, height]).toEqual(SIZE);
  const pixels = new Uint8Array(data32.buffer, data32.byteOffset, width * height * 4);
  const decoded = pixels.filter((_, index) => index % 4 !== 3);
  expect(difference(decoded, expected)).toBeLessThan(20);
  // Dithering keeps the colours of an area.
  const means = (of: Uint8Array) =>
    sharp(of, { raw: { width, height, channels: 3 } })
      .resize(12, 8)
      .raw()
      .toBuffer();
  expect(difference(await means(decoded), await means(expected))).toBeLessThan(4);
  expect(shown).toContain(`\u001b7\r\u001b[${Math.ceil(height / 20)}A\u001bP`);
});

test("a terminal without sixel gets no picture", async () => {
  expect(await shownBy({}, { answer: "\u001b[?1;2c" })).not.toMatch(ANY_PICTURE);
});

test("Ctrl-C takes the picture away and shows the cursor", async () => {
  const terminal = inTerminal([...RUN, "--steps", "5000", "--no-cache", "-o", "stopped.png"], { ...here, env: KITTY });
  await expect.poll(terminal.shown, { timeout: 60_000, interval: 20 }).toContain("a=T");
  terminal.type("\u0003");
  expect(await terminal.ended).toBe(130);
  await expect.poll(terminal.shown, { timeout: 30_000 }).toMatch(/error:\S* Stopped/);
  const shown = terminal.shown();
  expect(shown.lastIndexOf("a=d,d=I")).toBeGreaterThan(shown.lastIndexOf("a=T"));
  expect(shown.lastIndexOf("\u001b[?25h")).toBeGreaterThan(shown.lastIndexOf("\u001b[?25l"));
});

test("in a pipe nothing is drawn, even when a protocol is named", async () => {
  const { code, stderr } = await qedit([...SMALL, "-o", "piped.png", "--preview-terminal", "kitty"], {
    ...here,
    env: KITTY,
  });
  expect([code, stderr.includes("\u001b")]).toEqual([0, false]);
});

test("in tmux there is no picture and no question, even if tmux was started from kitty", async () => {
  const shown = await shownBy({ ...KITTY, TERM: "tmux-256color", TMUX: "/tmp/tmux,1,0" });
  expect(shown).not.toMatch(ANY_PICTURE);
  expect(shown).not.toContain(QUERY);
});
