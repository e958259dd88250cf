// Dynamic sections of this machine's libraries, of generated ones, and of damaged files.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readElf } from "../../src/engine/cuda/elf.js";
import { CORE_FILE, installedRelease } from "../../src/engine/cuda/release.js";
import { elf } from "../support/elf.js";
import { temporaryFolder } from "../support/folder.js";

const folder = temporaryFolder();

describe.runIf(process.platform === "linux")("libraries of this machine", () => {
  const { folder: native } = installedRelease();

  test("ONNX Runtime's library has its soname, needs the C++ library and searches its own folder", async () => {
    const found = await readElf(join(native, CORE_FILE));
    expect(found).toMatchObject({ architecture: process.arch, soname: "libonnxruntime.so.1", runpath: ["$ORIGIN"] });
    expect(found.needed).toEqual(expect.arrayContaining(["libstdc++.so.6", "libc.so.6"]));
  });

  test("the first library that the binding needs is ONNX Runtime's", async () => {
    expect((await readElf(join(native, "onnxruntime_binding.node"))).needed[0]).toBe("libonnxruntime.so.1");
  });

  test("reads node and every library that it has loaded", async () => {
    expect((await readElf(process.execPath)).needed).toContain("libc.so.6");
    const { sharedObjects } = process.report.getReport() as { sharedObjects: string[] };
    // Other tests of the process have loaded some of folders that are gone.
    const libraries = sharedObjects.filter((path) => /^\/.*\.so/.test(path) && existsSync(path));
    expect(libraries.length).toBeGreaterThan(2);
    for (const path of libraries) expect((await readElf(path)).architecture).toBe(process.arch);
  });

  test("reads libraries for the other architecture", async () => {
    const other = process.arch === "x64" ? "arm64" : "x64";
    expect(await readElf(join(native, "..", other, CORE_FILE))).toMatchObject({
      architecture: other,
      soname: "libonnxruntime.so.1",
    });
  });
});

test("reads back what was written", async () => {
  const path = folder.write(
    "lib.so",
    elf({ soname: "liba.so.1", needed: ["libb.so.2", "libc.so.6"], runpath: "$ORIGIN/lib::/opt/x", machine: 183 }),
  );
  expect(await readElf(path)).toEqual({
    architecture: "arm64",
    soname: "liba.so.1",
    needed: ["libb.so.2", "libc.so.6"],
    runpath: ["$ORIGIN/lib", "/opt/x"],
  });
});

test("names an unknown machine by its number", async () => {
  expect((await readElf(folder.write("riscv.so", elf({ machine: 243 })))).architecture).toBe("machine 243");
});

describe("refuses, in one line,", () => {
  const whole = elf({ needed: ["libb.so.2"] });
  const changed = (change: (bytes: Buffer) => void) => {
    const bytes = Buffer.from(whole);
    change(bytes);
    return bytes;
  };
  test.each([
    ["an empty file", Buffer.alloc(0), "it is too short"],
    ["a text", Buffer.from("#!/bin/sh\n".repeat(20)), "it is no ELF file"],
    ["a library of 32 bits", changed((bytes) => (bytes[4] = 1)), "it is not of 64 bits, little-endian"],
    ["a truncated library", whole.subarray(0, 200), /it ends at byte 200, wanted \d+/],
    ["a table outside of the file", changed((bytes) => bytes.writeBigUInt64LE(2n ** 60n, 32)), /it ends at byte \d+/],
    [
      "a string table outside of it",
      changed((bytes) => bytes.writeBigUInt64LE(0x99999n, 64 + 112 + 16 + 8)),
      "its string table lies outside of it",
    ],
  ])("%s", async (name, bytes, reason) => {
    const path = folder.write(`${name}.so`, bytes);
    const error = await readElf(path).then(
      () => undefined,
      (thrown: Error) => thrown,
    );
    expect(error).toMatchObject({ code: "QEDIT_E_IO", message: expect.stringMatching(/^Cannot read [^\n]+$/) });
    expect(error!.message.slice(`Cannot read ${path} as a shared library: `.length)).toMatch(reason);
  });

  test("a folder, and a file that does not exist", async () => {
    await expect(readElf(folder.path)).rejects.toMatchObject({ code: "QEDIT_E_IO" });
    await expect(readElf(folder.at("nowhere.so"))).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: `Cannot read ${folder.at("nowhere.so")}: it does not exist`,
    });
  });
});

test("throws QEDIT_E_IO or nothing for any damaged byte", async () => {
  const bytes = elf({ soname: "liba.so", needed: ["libb.so.2"], runpath: "$ORIGIN" });
  for (let at = 16; at < bytes.length; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at] = 0xff;
    writeFileSync(folder.at("damaged.so"), damaged);
    await readElf(folder.at("damaged.so")).catch((error: unknown) =>
      expect(error, `byte ${at}`).toMatchObject({ code: "QEDIT_E_IO" }),
    );
  }
  expect(readFileSync(folder.at("damaged.so")).length).toBe(bytes.length);
});
