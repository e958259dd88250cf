// Server-sent events as the client reads them: the examples of the standard, in pieces of every length.
import { expect, test } from "vitest";
import { type StreamEvent, streamEvents } from "../../src/cli/client/event-stream.js";

async function eventsOf(text: string, { piece = 1000, most = 1000 } = {}): Promise<StreamEvent[]> {
  const bytes = Buffer.from(text);
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
  }
  const events: StreamEvent[] = [];
  for await (const event of streamEvents(chunks(), { most, tooLong: () => new Error("too long") })) events.push(event);
  return events;
}

test.each([
  ["data of several lines", "data: YHOO\ndata: +2\ndata: 10\n\n", [{ name: "message", data: "YHOO\n+2\n10" }]],
  [
    "comments and fields without a value",
    ": keep-alive\n\ndata\n\ndata\ndata\n\n",
    ["", "\n"].map((data) => ({ name: "message", data })),
  ],
  [
    "one space after the colon",
    "data:test\n\ndata:  test\n\n",
    ["test", " test"].map((data) => ({ name: "message", data })),
  ],
  [
    "types, for one event each",
    "event: state\ndata: {}\n\ndata: x\n\n",
    [
      { name: "state", data: "{}" },
      { name: "message", data: "x" },
    ],
  ],
  [
    "other ends of lines, and a mark",
    "\ufeffevent: a\r\ndata: é1\r\r\nevent: b\rdata: 2\r\n\r\n",
    [
      { name: "a", data: "é1" },
      { name: "b", data: "2" },
    ],
  ],
  ["an event that is cut off as none", "data: 1\n\nevent: a\ndata: 2\n", [{ name: "message", data: "1" }]],
  [
    "other fields without effect",
    "id: 1\nretry: 5\nwhat: x\ndata: 1\n\nevent: alone\n\n",
    [{ name: "message", data: "1" }],
  ],
] as const)("reads %s", async (_, text, wanted) => {
  for (const piece of [1, 2, 3, 7, 1000]) expect(await eventsOf(text, { piece })).toEqual(wanted);
});

test("gives up an event that is too long, in one line or in many", async () => {
  await expect(eventsOf(`data: ${"x".repeat(200)}`, { most: 100, piece: 10 })).rejects.toThrow("too long");
  await expect(eventsOf("data: 0123456789\n".repeat(20), { most: 100 })).rejects.toThrow("too long");
  expect(await eventsOf("data: 0123456789\n\n".repeat(20), { most: 100 })).toHaveLength(20);
});
