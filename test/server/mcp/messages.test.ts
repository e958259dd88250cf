// What goes over the wire of `qedit mcp`: whole lines in, bounded pictures out, progress that only grows.
import { randomBytes } from "node:crypto";
import { Readable, Writable } from "node:stream";
import sharp from "sharp";
import { expect, test } from "vitest";
import { encodePicture } from "../../../src/image/io/write.js";
import { editProgress } from "../../../src/server/mcp/edit-progress.js";
import { lineTransport } from "../../../src/server/mcp/line-transport.js";
import { type DroppedLine, messageLines } from "../../../src/server/mcp/message-lines.js";
import { shownPicture } from "../../../src/server/mcp/shown-result.js";
import type { ProgressEvent } from "../../../src/std/events.js";

const MEGABYTE = 1024 ** 2;

function noise(width: number, height: number) {
  return { width, height, data: new Uint8Array(randomBytes(width * height * 3)) };
}

test("lines come whole, whatever pieces they were in; one that is too long is dropped, and the next comes", async () => {
  const dropped: DroppedLine[] = [];
  const whole = `first\n\n${"x".repeat(99)}\n${"y".repeat(299)}z\nlast\nnot ended`;
  for (const size of [1, 7, 64, 1000]) {
    const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, index) =>
      Buffer.from(whole.slice(index * size, (index + 1) * size)),
    );
    const lines: string[] = [];
    for await (const line of messageLines(Readable.from(pieces, { objectMode: false }), 100, (each) =>
      dropped.push(each),
    ))
      lines.push(line.toString());
    expect(lines).toEqual(["first", "", "x".repeat(99), "last"]);
  }
  const long = `${"y".repeat(299)}z`;
  expect(dropped).toEqual(Array(4).fill({ start: long, end: long }));
});

test("of a line that is too long the ends are kept", async () => {
  const dropped: DroppedLine[] = [];
  const pieces = ["s".repeat(1024), "m".repeat(5000), "e".repeat(1000), "f".repeat(24), "\n"];
  const lines = messageLines(Readable.from(pieces.map((each) => Buffer.from(each))), 100, (each) => dropped.push(each));
  for await (const line of lines) expect.fail(`${line.length} bytes`);
  expect(dropped).toEqual([{ start: "s".repeat(1024), end: `${"e".repeat(1000)}${"f".repeat(24)}` }]);
});

/** What the transport answers to lines of at most 200 kB, and passes on. */
async function exchanged(lines: readonly string[]) {
  const answers: { id: unknown; error: { code: number; message: string } }[] = [];
  const passed: unknown[] = [];
  const stdin = Readable.from([Buffer.from(lines.map((each) => `${each}\n`).join(""))]);
  const stdout = new Writable({
    write(part: Buffer, _encoding, done) {
      answers.push(JSON.parse(part.toString()) as (typeof answers)[0]);
      done();
    },
  });
  const { transport, ended } = lineTransport({ stdin, stdout, most: 200_000, warn: () => {} });
  transport.onmessage = (message) => passed.push(message);
  await transport.start();
  await ended;
  return { answers: answers.map(({ id, error: { code } }) => [id, code]), passed };
}

const LONG = "x".repeat(200_000);

test.each([
  ["no JSON", "{nonsense", [null, -32700]],
  ["a request without a method", '{"jsonrpc":"2.0","id":901}', [901, -32600]],
  ["an id that is no whole number", '{"jsonrpc":"2.0","id":1.5,"method":"ping"}', [1.5, -32600]],
  ["an id that is no id", '{"jsonrpc":"2.0","id":{},"method":"ping"}', [null, -32600]],
  ["another version", '{"id":"a","method":"ping"}', ["a", -32600]],
  ["a list", "[]", [null, -32600]],
  ["a call without parameters", '{"jsonrpc":"2.0","id":5,"method":"tools/call"}', [5, -32602]],
  ["no client", '{"jsonrpc":"2.0","id":6,"method":"initialize","params":{}}', [6, -32602]],
  [
    "a line that is too long, with its id first",
    `{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":"${LONG}"}}`,
    [7, -32600],
  ],
  ["one with its id last", `{"method":"x","params":{"a":"${LONG}","id":9},"jsonrpc":"2.0","id":"b"}`, ["b", -32600]],
  ["one without an id at its ends", `{"method":"x","id":3,"params":{"a":"${LONG}","id":9}}`, [3, -32600]],
  ["one with an id within", `{"method":"x","params":{"a":"${LONG}","id":9}}`, [null, -32600]],
])("%s is answered as an error, and the next message comes", async (_, line, answer) => {
  const next = { jsonrpc: "2.0", id: 1, method: "ping" };
  expect(await exchanged([line, JSON.stringify(next)])).toEqual({ answers: [answer], passed: [next] });
});

test("parameters nested more deeply than can be read are answered, whatever the reason", async () => {
  const deep = `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`;
  const { answers, passed } = await exchanged([`{"jsonrpc":"2.0","id":8,"method":"tools/call","params":${deep}}`]);
  expect(passed).toEqual([]);
  expect(answers).toEqual([[8, expect.toBeOneOf([-32600, -32602])]]);
});

test("responses and empty lines are not answered", async () => {
  const lines = [
    '{"jsonrpc":"2.0","id":1.5,"result":{}}',
    '{"id":4,"error":{}}',
    "",
    "\r",
    `{"result":"${LONG}","id":4}`,
  ];
  expect(await exchanged(lines)).toEqual({ answers: [], passed: [] });
});

test("a line of 64 MB in pieces as a pipe gives them takes under two seconds", async () => {
  const pieces = [...Array.from({ length: 1024 }, () => Buffer.alloc(65_536, 0x20)), Buffer.from("\n")];
  const start = performance.now();
  let length = 0;
  for await (const part of messageLines(Readable.from(pieces), 2 ** 30, () => {})) length += part.length;
  expect(length).toBe(64 * MEGABYTE);
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
