// The lines of stdin, whole: a picture in base64 comes in thousands of pieces, which are joined once.
import { Readable } from "node:stream";

const LINE_FEED = 0x0a;

/** Gives whole lines. One of more than `most` bytes is dropped, and reported. Ends with the stream. */
export function messageLines(stream: Readable, most: number, onDropped: (text: string) => void): Readable {
  return Readable.from(linesOf(stream, most, onDropped), { objectMode: false });
}

async function* linesOf(stream: Readable, most: number, onDropped: (text: string) => void): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  let isDropped = false;
  for await (const chunk of stream) {
    let rest = chunk as Buffer;
    for (let end = rest.indexOf(LINE_FEED); end >= 0; end = rest.indexOf(LINE_FEED)) {
      if (!isDropped && length + end < most) yield Buffer.concat([...parts, rest.subarray(0, end + 1)]);
      else onDropped(`a message of more than ${most} bytes was dropped`);
      [parts, length, isDropped] = [[], 0, false];
      rest = rest.subarray(end + 1);
    }
    length += rest.length;
    if (length > most) [parts, isDropped] = [[], true];
    else if (!isDropped) parts.push(rest);
  }
}
