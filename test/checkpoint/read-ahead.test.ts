// Reading ahead: which bytes, and when it stops.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { rangesOf, readAhead } from "../../src/checkpoint/read-ahead.js";

const MIB = 1024 ** 2;
const folder = await mkdtemp(join(tmpdir(), "qedit-ahead-"));
const file = join(folder, "weights");
await writeFile(file, Buffer.alloc(40 * MIB));
afterAll(() => rm(folder, { recursive: true, force: true }));

const FREE = { signal: new AbortController().signal, hasRoom: () => true };

function tensor(name: string, offset: number, length: number) {
  return { dtype: "U8", shape: [length], file: name, offset, length } as const;
}

test("tensors that lie side by side are one range, whatever their order; those far apart are not", () => {
  const tensors = [
    tensor("b", 10, 5),
    tensor("a", 5 * MIB, 10),
    tensor("a", 0, 100),
    tensor("a", 100, 50),
    tensor("a", 200, 7),
  ];
  expect(rangesOf(tensors)).toEqual([
    { file: "a", start: 0, end: 207 },
    { file: "a", start: 5 * MIB, end: 5 * MIB + 10 },
    { file: "b", start: 10, end: 15 },
  ]);
});

test("every byte of the ranges is read, and none after the end of a file", async () => {
  expect(
    await readAhead(
      [
        { file, start: 3, end: 20 * MIB },
        { file, start: 30 * MIB, end: 31 * MIB },
      ],
      FREE,
    ),
  ).toBe(21 * MIB - 3);
  expect(await readAhead([{ file, start: 39 * MIB, end: 60 * MIB }], FREE)).toBe(MIB);
});

test("it stops when its signal aborts, when memory is short, and at a file that is not there", async () => {
  const all = [{ file, start: 0, end: 40 * MIB }];
  const controller = new AbortController();
  let reads = 0;
  const stopped = await readAhead(all, {
    signal: controller.signal,
    hasRoom() {
      reads += 1;
      if (reads === 2) controller.abort();
      return true;
    },
  });
  expect(stopped).toBe(16 * MIB);
  let room = 3;
  expect(await readAhead(all, { ...FREE, hasRoom: () => room-- > 0 })).toBe(24 * MIB);
  expect(await readAhead([{ file: join(folder, "none"), start: 0, end: 5 }, ...all], FREE)).toBe(0);
});
