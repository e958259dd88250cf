// Messages over a stream of bytes, typed arrays apart from the rest: written without a copy, and read into their final buffers.
// The IPC channel of child_process ("advanced" serialization) takes twice as long for 50 MB and six times as long for 200 MB, with several copies.
import type { Duplex } from "node:stream";
import { DefaultSerializer, Deserializer } from "node:v8";

/** Receives a message, and the buffers of its typed arrays, which may be transferred. */
export type OnMessage<Message> = (message: Message, buffers: ArrayBuffer[]) => void;

/**
 * Reads messages from a stream, and returns a function that writes messages to it. A message is anything that structured clone supports, with
 * Float32Array, Int32Array, BigInt64Array and Uint8Array as its binary data; these must not change until they are written.
 */
export function messageStream<Received, Sent>(stream: Duplex, onMessage: OnMessage<Received>): (message: Sent) => void {
  readParts(stream, ([header, ...buffers]) =>
    onMessage(new HeaderReader(header!, buffers).readValue() as Received, buffers),
  );
  return (message) => {
    const header = new HeaderWriter();
    header.writeHeader();
    header.writeValue(message);
    writeParts(stream, [header.releaseBuffer(), ...header.arrays]);
  };
}

type BinaryData = Float32Array | Int32Array | BigInt64Array | Uint8Array;

const ARRAYS = [Float32Array, Int32Array, BigInt64Array, Uint8Array] as const;

/** Writes a message, with the index of its type in place of each typed array. */
class HeaderWriter extends DefaultSerializer {
  readonly arrays: BinaryData[] = [];

  _writeHostObject(array: object): void {
    const type = ARRAYS.findIndex((each) => array instanceof each);
    if (type < 0) throw new Error(`internal: a message with a ${array.constructor.name}`);
    this.writeUint32(type);
    this.arrays.push(array as BinaryData);
  }
}

/** Reads a message; its typed arrays use the buffers in the order in which they were written. */
class HeaderReader extends Deserializer {
  readonly #buffers: Iterator<ArrayBuffer>;

  constructor(header: ArrayBuffer, buffers: readonly ArrayBuffer[]) {
    super(new Uint8Array(header));
    this.#buffers = buffers.values();
    this.readHeader();
  }

  _readHostObject(): BinaryData {
    const type = ARRAYS[this.readUint32()]!;
    return new type(this.#buffers.next().value as ArrayBuffer);
  }
}

// On the stream: the number of parts as uint32, the length of each in bytes as float64 (exact to 2^53), the parts.
function writeParts(stream: Duplex, parts: readonly BinaryData[]): void {
  stream.cork();
  stream.write(bytesOf(Uint32Array.of(parts.length)));
  stream.write(bytesOf(Float64Array.from(parts, ({ byteLength }) => byteLength)));
  for (const part of parts) stream.write(bytesOf(part));
  stream.uncork();
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function readParts(stream: Duplex, onParts: (parts: ArrayBuffer[]) => void): void {
  const reader = partsReader(onParts);
  let wanted = new Uint8Array(reader.next(EMPTY).value);
  let length = 0;
  stream.on("data", (chunk: Uint8Array) => {
    for (let at = 0; at < chunk.length; ) {
      const taken = chunk.subarray(at, at + wanted.length - length);
      wanted.set(taken, length);
      length += taken.length;
      at += taken.length;
      // A loop: parts may be empty.
      while (length === wanted.length) {
        wanted = new Uint8Array(reader.next(wanted.buffer).value);
        length = 0;
      }
    }
  });
}

const EMPTY = new ArrayBuffer(0);

// Yields the buffer to fill next, and is resumed with it when it is full.
function* partsReader(onParts: (parts: ArrayBuffer[]) => void): Generator<ArrayBuffer, never, ArrayBuffer> {
  for (;;) {
    const [count = 0] = new Uint32Array(yield new ArrayBuffer(Uint32Array.BYTES_PER_ELEMENT));
    const lengths = new Float64Array(yield new ArrayBuffer(count * Float64Array.BYTES_PER_ELEMENT));
    const parts: ArrayBuffer[] = [];
    for (const length of lengths) parts.push(yield new ArrayBuffer(length));
    onParts(parts);
  }
}
