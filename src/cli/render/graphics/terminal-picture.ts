// A small picture as the escape sequences that draw it on a terminal, and the rows that it takes.
import { overWhite } from "../../../image/alpha.js";
import { CHANNELS, type Image } from "../../../image/image.js";
import { encodePicture } from "../../../image/io/write.js";
import type { GraphicsProtocol } from "./graphics-protocol.js";
import { encodeSixel } from "./sixel.js";
import type { TerminalAnswer } from "./terminal-query.js";

/** Sequences of one picture. */
export interface TerminalPicture {
  /** Rows that it takes, below the cursor. */
  readonly rows: number;
  /** Draws it at the cursor; where the cursor is then differs. */
  readonly draw: string;
  /** Takes it from the screen, where erasing its cells is not enough. */
  readonly remove: string;
}

/** The place for pictures on a terminal. */
export interface PictureSpace {
  readonly protocol: GraphicsProtocol;
  readonly cell: TerminalAnswer["cell"];
  /** The size of the screen in cells. */
  readonly columns: number;
  readonly rows: number;
}

/** A picture takes at most so many rows, and half of the screen. */
const MOST_ROWS = 16;
/** Fewer rows than these show nothing. */
const FEWEST_ROWS = 3;
/** Rows of pixels at most: a step has less than 20 ms for it, and previews hold no more than a colour for four by four pixels. */
const MOST_PIXELS = 256;
/** A cell of a terminal that did not say: too small, so that a picture never covers what stands below it. */
const UNKNOWN_CELL = { width: 5, height: 10 };
/** Height of a cell by its width. */
const CELL_ASPECT = 2;

const JPEG_QUALITY = 85;
/** The most of one chunk, by the protocol. */
const KITTY_CHUNK = 4096;

/** The sequences of a picture; undefined if the screen is too small for one. `id` is that of this program's pictures in kitty. */
export async function terminalPicture(
  image: Image,
  { protocol, cell = UNKNOWN_CELL, columns, rows: screen }: PictureSpace,
  id: number,
): Promise<TerminalPicture | undefined> {
  const { width, height } = image;
  const aspect = protocol === "sixel" ? cell.height / cell.width : CELL_ASPECT;
  // One column stays free: a picture up to the edge would wrap.
  const byWidth = Math.floor(((columns - 1) * height) / width / aspect);
  const rows = Math.min(MOST_ROWS, Math.floor(screen / 2), byWidth);
  if (rows < FEWEST_ROWS) return undefined;
  if (protocol === "sixel") {
    const small = shrunk(image, Math.min(rows * cell.height, MOST_PIXELS));
    return { rows: Math.ceil(small.height / cell.height), draw: encodeSixel(small), remove: "" };
  }
  const small = shrunk(image, MOST_PIXELS);
  if (protocol === "iterm2") {
    const bytes = await encodePicture(small, { format: "jpeg", quality: JPEG_QUALITY });
    const facts = `inline=1;size=${bytes.length};height=${rows};preserveAspectRatio=1;doNotMoveCursor=1`;
    return { rows, draw: `\u001b]1337;File=${facts}:${base64(bytes)}\u0007`, remove: "" };
  }
  const bytes = await encodePicture(small, { format: "png" });
  return { rows, draw: kittyChunks(base64(bytes), { rows, id }), remove: `\u001b_Ga=d,d=I,i=${id},q=2\u001b\\` };
}

// q=2: no answers, which would come as if they were typed. C=1: the cursor stays.
function kittyChunks(payload: string, { rows, id }: { rows: number; id: number }): string {
  const chunks: string[] = [];
  for (let at = 0; at < payload.length; at += KITTY_CHUNK) {
    const first = at === 0 ? `a=T,f=100,i=${id},p=1,r=${rows},C=1,` : "";
    const more = at + KITTY_CHUNK < payload.length ? 1 : 0;
    chunks.push(`\u001b_G${first}q=2,m=${more};${payload.slice(at, at + KITTY_CHUNK)}\u001b\\`);
  }
  return chunks.join("");
}

// Takes every n-th pixel: previews are smooth.
function shrunk(picture: Image, mostRows: number): Image {
  const image = overWhite(picture);
  if (image.height <= mostRows) return image;
  const [width, height] = [Math.max(1, Math.round((image.width * mostRows) / image.height)), mostRows];
  const data = new Uint8Array(width * height * CHANNELS);
  for (let y = 0, at = 0; y < height; y += 1) {
    const row = Math.floor(((y + 0.5) * image.height) / height) * image.width;
    for (let x = 0; x < width; x += 1, at += CHANNELS) {
      const from = (row + Math.floor(((x + 0.5) * image.width) / width)) * CHANNELS;
      for (let channel = 0; channel < CHANNELS; channel += 1) data[at + channel] = image.data[from + channel]!;
    }
  }
  return { width, height, data };
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
}
