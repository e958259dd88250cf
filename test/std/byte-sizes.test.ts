import { expect, test } from "vitest";
import { binarySize, decimalSize, gigabytes, parseSize } from "../../src/std/byte-sizes.js";

test.each([
  [0, "0 bytes"],
  [999, "999 bytes"],
  [1000, "1 kB"],
  [12_345, "12 kB"],
  [253_806_966, "253.81 MB"],
  [20_430_635_136, "20.43 GB"],
  [3e15, "3.00 PB"],
  [3e18, "3000.00 PB"],
])("%d bytes in decimal units are %s", (bytes, text) => {
  expect(decimalSize(bytes)).toBe(text);
});

test("gigabytes stay gigabytes", () => {
  expect([0, 254e6, 20.43e9].map(gigabytes)).toEqual(["0.0 GB", "0.3 GB", "20.4 GB"]);
});

test.each([
  [1, "1 KiB"],
  [3 * 1024, "3 KiB"],
  [1024 ** 2, "1 MiB"],
  [512.4 * 1024 ** 2, "512 MiB"],
  [8 * 1024 ** 3, "8.0 GiB"],
])("%d bytes in binary units are %s", (bytes, text) => {
  expect(binarySize(bytes)).toBe(text);
});

test.each([
  ["2G", 2 * 1024 ** 3],
  [" 500 m ", 500 * 1024 ** 2],
  ["1.5GiB", 1.5 * 1024 ** 3],
  ["1kb", 1024],
  ["0.1k", 102],
  ["1t", 1024 ** 4],
  ["1234", 1234],
])("%j is a size of %d bytes", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(["", "G", "-1G", "1.G", "1e9", "2 gigabytes", "1 2G"])("%j is no size", (text) => {
  expect(parseSize(text)).toBeUndefined();
});
