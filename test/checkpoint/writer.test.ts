// Written files: their layout, and that a write happens whole or not at all.

import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { encodeSafetensors, writeSafetensors } from "../../src/checkpoint/safetensors/safetensors-writer.js";
import { writeFileAtomically } from "../../src/std/files.js";
import { removeTemporaryFiles } from "../../src/std/temporary-files.js";
import { float32, tensor } from "../../src/std/tensor.js";
import { temporaryFolder } from "./folder.js";

const path = temporaryFolder();
const BYTES = Uint8Array.of(1, 2, 3);

describe("encodeSafetensors", () => {
  test("gives the bytes of the format's own test", () => {
    // test_serialization_forced_alignement of safetensors/src/tensor.rs
    const bytes = encodeSafetensors({ attn0: float32([1, 1, 2, 3], Float32Array.of(0, 1, 2, 3, 4, 5)) });
    const json = '{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ';
    expect(bytes[0]).toBe(72);
    expect(new TextDecoder().decode(bytes.subarray(8, 80))).toBe(json);
    expect([...new Float32Array(bytes.slice(80).buffer)]).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("puts wide types first, then sorts by name, with metadata before all", () => {
    const bytes = encodeSafetensors(
      {
        b: float32([1]),
        n: { ...float32([1]), storedAs: "BF16" },
        a: float32([1]),
        l: tensor("int64", [1], BigInt64Array.of(1n)),
      },
      { format: "pt" },
    );
    const header = JSON.parse(
      new TextDecoder().decode(bytes.subarray(8, 8 + (bytes[0] ?? 0) + 256 * (bytes[1] ?? 0))),
    ) as object;
    expect(Object.keys(header)).toEqual(["__metadata__", "l", "a", "b", "n"]);
  });

  test("stores only floats as smaller floats", () => {
    expect(() => encodeSafetensors({ a: { ...tensor("uint8", [1], BYTES.slice(0, 1)), storedAs: "BF16" } })).toThrow(
      "internal:",
    );
  });
});

describe("writeFileAtomically", () => {
  test("makes missing folders, replaces what is there, and leaves no other file", async () => {
    const file = path("new/deeper/x.bin");
    await writeFileAtomically(file, Uint8Array.of(9));
    await writeFileAtomically(file, BYTES);
    expect([...(await readFile(file))]).toEqual([1, 2, 3]);
    expect(await readdir(path("new/deeper"))).toEqual(["x.bin"]);
  });

  test("writes of one path at the same time do not mix", async () => {
    const contents = [1, 2, 3, 4].map((value) => new Uint8Array(100_000).fill(value));
    await Promise.all(contents.map((bytes) => writeFileAtomically(path("same/x.bin"), bytes)));
    expect(new Set(await readFile(path("same/x.bin"))).size).toBe(1);
    expect(await readdir(path("same"))).toEqual(["x.bin"]);
  });

  test("keeps a symbolic link and replaces what it leads to", async () => {
    await mkdir(path("links"));
    await writeFile(path("links/target"), "old");
    await symlink(path("links/target"), path("links/link"));
    await writeFileAtomically(path("links/link"), BYTES);
    expect([...(await readFile(path("links/target")))]).toEqual([1, 2, 3]);
  });

  test("writes into a device instead of replacing it", async () => {
    await writeFileAtomically("/dev/null", BYTES);
    expect((await readFile("/dev/null")).length).toBe(0);
  });

  test("a folder of that name is refused, and nothing is left behind", async () => {
    await mkdir(path("taken/x"), { recursive: true });
    await expect(writeFileAtomically(path("taken/x"), BYTES)).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: `Cannot write ${path("taken/x")}: it is a folder`,
      hint: expect.any(String),
    });
    expect(await readdir(path("taken"))).toEqual(["x"]);
  });

  test("a file where a folder should be is refused", async () => {
    await writeFile(path("plain"), "");
    await expect(writeFileAtomically(path("plain/x"), BYTES)).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringContaining("not a folder"),
    });
  });

  test.skipIf(process.getuid?.() === 0)("a folder without write permission is refused", async () => {
    await mkdir(path("locked"));
    await chmod(path("locked"), 0o500);
    await expect(writeFileAtomically(path("locked/x"), BYTES)).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringContaining("permission denied"),
    });
  });

  test.skipIf(!existsSync("/dev/full"))("a full disk is said in one line", async () => {
    await expect(writeFileAtomically("/dev/full", BYTES)).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: "Cannot write /dev/full: no space is left on the disk",
    });
  });
});

describe("removeTemporaryFiles", () => {
  test("removes the file of a write under way, so that the write fails", async () => {
    await mkdir(path("interrupted"));
    const write = writeFileAtomically(path("interrupted/x.bin"), new Uint8Array(50_000_000));
    const outcome = write.then(
      () => "written",
      () => "failed",
    );
    for (let i = 0; i < 1000 && (await readdir(path("interrupted"))).length === 0; i++)
      await new Promise((resolve) => setImmediate(resolve));
    removeTemporaryFiles();
    expect(await outcome).toBe("failed");
    expect(await readdir(path("interrupted"))).toEqual([]);
  });
});

test("writeSafetensors writes what encodeSafetensors gives", async () => {
  const tensors = { a: float32([2], Float32Array.of(1, 2)) };
  await writeSafetensors(path("w.safetensors"), tensors, { a: "b" });
  expect(new Uint8Array(await readFile(path("w.safetensors")))).toEqual(encodeSafetensors(tensors, { a: "b" }));
});
