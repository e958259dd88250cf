// The lines of stdin, whole: a picture in base64 comes in thousands of pieces, which are joined once.
import type { Readable } from "node:stream";

const LINE_FEED = 0x0a;
/** Bytes of both ends of a line that are kept though it is dropped: those of the request's id. */
const END_BYTES = 1024;

/** The ends of a line that was dropped. */
export interface DroppedLine {
  readonly start: string;
  readonly end: string;
}

/** Gives whole lines without their line feeds. One of more than `most` bytes is dropped, and reported. Ends with the stream. */
export async function* messageLines(
  stream: Readable,
  most: number,
  onDropped: (line: DroppedLine) => void,
): AsyncGenerator<Buffer> {
  let line = emptyLine();
  for await (const chunk of stream) {
    let rest = chunk as Buffer;
    for (let end = rest.indexOf(LINE_FEED); end >= 0; end = rest.indexOf(LINE_FEED)) {
      const { parts, length, ends } = extended(line, rest.subarray(0, end), most);
      if (length < most) yield Buffer.concat(parts);
      else onDropped({ start: ends[0].toString(), end: ends[1].toString() });
      line = emptyLine();
      rest = rest.subarray(end + 1);
    }
    line = extended(line, rest, most);
  }
}

interface Line {
  /** Its pieces, while it is not too long. */
  readonly parts: Buffer[];
  readonly length: number;
  readonly ends: readonly [start: Buffer, end: Buffer];
}

function emptyLine(): Line {
  return { parts: [], length: 0, ends: [Buffer.alloc(0), Buffer.alloc(0)] };
}

function extended({ parts, length, ends: [start, end] }: Line, piece: Buffer, most: number): Line {
  const whole = length + piece.length;
  if (whole > most) parts.length = 0;
  else parts.push(piece);
  return {
    parts,
    length: whole,
    ends: [
      start.length < END_BYTES ? Buffer.concat([start, piece.subarray(0, END_BYTES - start.length)]) : start,
      Buffer.concat([end, piece.subarray(-END_BYTES)]).subarray(-END_BYTES),
    ],
  };
}
