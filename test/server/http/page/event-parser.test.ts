import { expect, test } from "vitest";
import { eventParser } from "../../../../src/server/http/page/event-parser.js";

const STREAM =
  '\ufeff: keep-alive\n\nevent: state\ndata: {"id":"a"}\n\ndata: one\r\ndata:two\r\n\r\nevent: empty\n\ndata: é\r\r';
const EVENTS = [
  { name: "state", data: '{"id":"a"}' },
  { name: "message", data: "one\ntwo" },
  { name: "message", data: "é" },
];

test("events are read with every end of line, without comments and events that have no data", () => {
  expect(eventParser()(`${STREAM}\n`)).toEqual(EVENTS);
});

test("events are the same wherever the stream is cut", () => {
  for (let length = 1; length <= 7; length += 1) {
    const parse = eventParser();
    const pieces = `${STREAM}\n`.match(new RegExp(`[^]{1,${length}}`, "g"))!;
    expect(pieces.flatMap((piece) => parse(piece))).toEqual(EVENTS);
  }
});

test("an event that is not complete is not given", () => {
  const parse = eventParser();
  expect(parse("event: state\ndata: 1\n")).toEqual([]);
  expect(parse("\n")).toEqual([{ name: "state", data: "1" }]);
});
