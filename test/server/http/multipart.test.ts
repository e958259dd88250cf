// Forms by the bytes that clients send.
import { describe, expect, test } from "vitest";
import { readMultipart } from "../../../src/server/http/multipart.js";
import { processorTime } from "../../support/processor-time.js";

const TYPE = "multipart/form-data; boundary=b";
const read = (text: string | Buffer, type = TYPE) => readMultipart(Buffer.from(text as string, "utf8"), type);
const part = (headers: string, content = "x") => `--b\r\n${headers}\r\n\r\n${content}\r\n`;
const CLOSE = "--b--\r\n";
const named = (disposition: string) => read(part(`Content-Disposition: form-data; ${disposition}`) + CLOSE)[0]!;
const fileNamed = (disposition: string) => (named(`name="image"; ${disposition}`).value as { name: string }).name;

test.each([
  ["quoted", 'name="prompt"', "prompt"],
  ["not quoted, as .NET writes it", "name=prompt", "prompt"],
  ["with a bracket", 'name="image[]"', "image[]"],
  ["with a quote as browsers write it", 'name="a%22b"', 'a"b'],
  ["with a quote behind a backslash", 'name="a\\"b"', 'a"b'],
  ["beyond ASCII", 'name="schlüssel"', "schlüssel"],
  ["with spaces", 'NAME = "a b" ;', "a b"],
])("a name %s", (_, disposition, name) => {
  expect(named(disposition)).toEqual({ name, value: "x" });
});

test.each([
  ["quoted", 'filename="a b;c.jpg"', "a b;c.jpg"],
  ["not quoted", "filename=cat.jpg", "cat.jpg"],
  ["of .NET, in both ways", `filename="=?utf-8?B?w6QuanBn?="; filename*=utf-8''%C3%A4.jpg`, "ä.jpg"],
  ["of RFC 8187 first", `filename*=UTF-8'en'%e2%82%ac.jpg; filename=euro.jpg`, "€.jpg"],
  ["with folders of Windows", 'filename="C:\\folder\\cat.jpg"', "C:\\folder\\cat.jpg"],
  ["that ends in a backslash", 'filename="folder\\"', "folder\\"],
  ["that is empty", 'filename=""', ""],
])("a file's name %s", (_, disposition, name) => {
  expect(fileNamed(disposition)).toBe(name);
});

test("text before the first boundary and after the last is no part", () => {
  const body = `preamble\r\n${part('Content-Disposition: form-data; name="a"', "1\r\n--bc\r\n")}--b--\r\nepilogue\r\n--b\r\n`;
  expect(read(body)).toEqual([{ name: "a", value: "1\n--bc\n" }]);
});

test("the parts of fetch, byte for byte, with the line breaks of texts as they were", async () => {
  const form = new FormData();
  const bytes = Uint8Array.from({ length: 1000 }, (_, index) => (index * 7) % 256);
  form.append("prompt", "make it\nwinter ❄");
  form.append("empty", "");
  form.append("image", new Blob([bytes]), 'a "quoted"\r\nname.jpg');
  form.append("mask", new Blob(["a\r\nb"]), "mask.txt");
  const response = new Response(form);
  const body = Buffer.from(await response.arrayBuffer());
  expect(readMultipart(body, response.headers.get("content-type")!)).toEqual([
    { name: "prompt", value: "make it\nwinter ❄" },
    { name: "empty", value: "" },
    { name: "image", value: { name: 'a "quoted"\r\nname.jpg', bytes } },
    { name: "mask", value: { name: "mask.txt", bytes: new Uint8Array(Buffer.from("a\r\nb")) } },
  ]);
  expect(readMultipart(Buffer.from(CLOSE), TYPE)).toEqual([]);
});

describe("what is damaged is refused, and nothing left out:", () => {
  const good = part('Content-Disposition: form-data; name="a"');
  test.each([
    ["no boundary in the type", good + CLOSE, "multipart/form-data"],
    ["another boundary", good + CLOSE, "multipart/form-data; boundary=c"],
    ["no end", good],
    ["an end in a header", "--b\r\nContent-Disposition: form-da"],
    ["a part without headers", `--b\r\n\r\nx\r\n${CLOSE}`],
    ["a part of nothing", `--b\r\n${CLOSE}`],
    ["no name", part("Content-Disposition: form-data") + CLOSE],
    ["a file without a name of its part", part('Content-Disposition: form-data; filename="a.jpg"') + CLOSE],
    ["no disposition", part("Content-Type: text/plain") + CLOSE],
    ["another disposition", part('Content-Disposition: attachment; name="a"') + CLOSE],
    ["two dispositions", part(`${"Content-Disposition: form-data; name=a\r\n".repeat(2)}X-Y: z`) + CLOSE],
    ["a name twice", part("Content-Disposition: form-data; name=a; name=b") + CLOSE],
    ["a name that does not end", part('Content-Disposition: form-data; name="a') + CLOSE],
    ["another charset", part("Content-Disposition: form-data; name=a; filename*=latin1''a") + CLOSE],
    ["a percent sign of nothing", part("Content-Disposition: form-data; name=a; filename*=UTF-8''%ff") + CLOSE],
    ["a header without a colon", part("Content-Disposition: form-data; name=a\r\nnothing") + CLOSE],
    ["a single line feed in a header", part("Content-Disposition: form-data;\n name=a") + CLOSE],
    ["an encoding", part("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64") + CLOSE],
    ["headers without end", part(`Content-Disposition: form-data; name=a\r\nX-Y: ${"z".repeat(20_000)}`) + CLOSE],
  ])("%s", (_, body, type = TYPE) => {
    expect(() => read(body, type)).toThrow("The form cannot be read: its parts or boundaries are damaged");
  });

  test("more parts than any edit has", () => {
    expect(read(good.repeat(500) + CLOSE)).toHaveLength(500);
    expect(() => read(good.repeat(501) + CLOSE)).toThrow("The form has more than 500 parts");
  });

  test("a text that is no UTF-8, by its name", () => {
    const body = Buffer.from(part("Content-Disposition: form-data; name=prompt", "caf\xe9") + CLOSE, "latin1");
    expect(() => read(body)).toThrow('Cannot use "prompt": it is no UTF-8');
  });
});

test("a hostile name takes no time", () => {
  const start = performance.now();
  const name = `name="${'\\"'.repeat(7000)}x`;
  expect(() => named(name)).toThrow(/damaged/);
  expect(performance.now() - start).toBeLessThan(1000);
});

test.each([
  ["separators", "; ".repeat(8000)],
  ["spaces", " ".repeat(16_000)],
  ["quotes behind backslashes", '\\" '.repeat(5000)],
])("hundreds of parts whose names are long runs of %s are read in moderate time", (_, run) => {
  const body = part(`Content-Disposition: form-data; name="${run}x"`).repeat(200) + CLOSE;
  const spent = processorTime();
  expect(read(body)).toHaveLength(200);
  expect(spent()).toBeLessThan(5000);
});

test("lines that only begin like a boundary take no time", () => {
  const content = Buffer.alloc(20_000_000, "\r\n--bX");
  const [head, end] = part('Content-Disposition: form-data; name="image"; filename="x"', "|").split("|");
  const body = Buffer.concat([Buffer.from(head!), content, Buffer.from(`${end}${CLOSE}`)]);
  const spent = processorTime();
  const { bytes } = read(body)[0]!.value as { bytes: Uint8Array };
  expect(Buffer.compare(bytes, content)).toBe(0);
  expect(spent()).toBeLessThan(600);
});

test.each([
  ["spaces and tabs", " \t ", 2],
  ["as many of them as gateways add", " ".repeat(98), 2],
  ["more spaces", " ".repeat(99), 1],
  ["a letter", " x", 1],
])("a boundary with %s behind it", (_, padding, count) => {
  const first = part('Content-Disposition: form-data; name="a"').slice(0, -2);
  const second = part('Content-Disposition: form-data; name="b"').replace("--b", `--b${padding}`);
  expect(read(`${first}\r\n${second}${CLOSE}`)).toHaveLength(count);
});

test("a boundary that the body ends in is none", () => {
  expect(() => read("--b")).toThrow(/damaged/);
  expect(() => read("--b \r")).toThrow(/damaged/);
});
