// Messages written to a stream and read back, in chunks of several sizes.
import { PassThrough, Transform } from "node:stream";
import { expect, test } from "vitest";
import { messageStream } from "../../src/engine/sessions/message-stream.js";

const MESSAGE = {
  id: 3,
  feeds: {
    x: { type: "float32", shape: [2, 3], data: Float32Array.of(0, -1, 2.5, Number.NaN, 4, 5) },
    none: { type: "int32", shape: [0, 7], data: new Int32Array(0) },
    ids: { type: "int64", shape: [1], data: BigInt64Array.of(2n ** 60n + 1n) },
    bytes: { type: "uint8", shape: [3], data: Uint8Array.of(7, 8, 9) },
  },
  hint: undefined,
};

/** Splits all chunks into single bytes. */
function singleBytes(): Transform {
  return new Transform({
    transform(chunk: Uint8Array, _, done) {
      for (const byte of chunk) this.push(Uint8Array.of(byte));
      done();
    },
  });
}

test.each([
  ["in whole chunks", () => new PassThrough()],
  ["byte by byte", singleBytes],
])("messages arrive unchanged and in order, read %s", async (_, stream) => {
  const messages = [MESSAGE, { id: 4 }, { ...MESSAGE, id: 5 }];
  const received: unknown[] = [];
  await new Promise<void>((resolve) => {
    const send = messageStream(stream(), (message) => {
      received.push(message);
      if (received.length === messages.length) resolve();
    });
    for (const message of messages) send(message);
  });
  expect(received).toEqual(messages);
});

test("of a view only its own elements are sent, and its buffer is passed on for transfer", async () => {
  const data = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
  const [message, buffers] = await new Promise<[{ data: Float32Array }, ArrayBuffer[]]>((resolve) => {
    messageStream<{ data: Float32Array }, object>(new PassThrough(), (...received) => resolve(received))({ data });
  });
  expect(message).toEqual({ data: Float32Array.of(2, 3) });
  expect(buffers).toEqual([message.data.buffer]);
  expect(message.data.buffer.byteLength).toBe(8);
});

test("a Buffer arrives as a Uint8Array", async () => {
  const received = await new Promise((resolve) => {
    messageStream(new PassThrough(), resolve)({ bytes: Buffer.from("abc") });
  });
  expect(received).toEqual({ bytes: Uint8Array.of(97, 98, 99) });
});

test("refuses binary data of another type", () => {
  const send = messageStream(new PassThrough(), () => {});
  expect(() => send({ data: new Uint16Array(1) })).toThrow("internal: a message with a Uint16Array");
});
