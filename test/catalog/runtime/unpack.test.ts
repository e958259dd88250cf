// The provider out of every kind of package, and nothing else out of bad ones.
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { unpackProvider } from "../../../src/catalog/runtime/unpack.js";
import { elf, provider } from "../../support/elf.js";
import { temporaryFolder } from "../../support/folder.js";
import { zip } from "../../support/zip.js";
import {
  CUDA,
  CUDA_FILE,
  NPM_LAYOUT,
  NUGET_LAYOUT,
  renamedInTar,
  SHARED,
  SHARED_FILE,
  tarball,
  VERSION,
  zipFile,
} from "./packages.js";

const folder = temporaryFolder();
let count = 0;
let target = "";
beforeEach(() => {
  target = folder.at(`target${count++}/in`);
  folder.write(`${target.slice(folder.path.length + 1)}/.keep`, "");
});

async function unpacked(source: string): Promise<void> {
  await unpackProvider(source, target, { version: VERSION });
  expect(readFileSync(`${target}/${CUDA_FILE}`).equals(CUDA)).toBe(true);
  expect(readFileSync(`${target}/${SHARED_FILE}`).equals(SHARED)).toBe(true);
  expect(
    folder
      .names()
      .filter((name) => name.startsWith(`target${count - 1}/in/`))
      .map((name) => name.split("/").at(-1)),
  ).toEqual([".keep", CUDA_FILE, SHARED_FILE]);
}

// Packages are for x64; on another machine their libraries are of it, which this does not look at.
describe("takes the provider from", () => {
  test("the npm package's tarball", async () => unpacked(await tarball(folder, "npm.tgz", NPM_LAYOUT)));
  test("a tarball under any name, packed or not", async () =>
    unpacked(await tarball(folder, "package", NPM_LAYOUT, { gzip: false })));
  test("a NuGet package", () => unpacked(zipFile(folder, "x.nupkg", NUGET_LAYOUT)));
  test("a Python wheel", () =>
    unpacked(
      zipFile(folder, "x.whl", {
        [`onnxruntime/capi/${CUDA_FILE}`]: CUDA,
        [`onnxruntime/capi/${SHARED_FILE}`]: SHARED,
      }),
    ));
  test("a package for several machines", () =>
    unpacked(
      zipFile(folder, "all.nupkg", {
        [`runtimes/linux-arm64/native/${CUDA_FILE}`]: elf({ machine: 183 }),
        [`runtimes/linux-arm64/native/${SHARED_FILE}`]: elf({ machine: 183 }),
        ...NUGET_LAYOUT,
      }),
    ));
  test("an unpacked package", async () => {
    for (const [name, bytes] of Object.entries(NPM_LAYOUT)) folder.write(`unpacked/${name}`, bytes);
    await unpacked(folder.at("unpacked"));
  });
  test("the library itself, with the bridge beside it", async () => {
    folder.write(`libs/${SHARED_FILE}`, SHARED);
    await unpacked(folder.write(`libs/${CUDA_FILE}`, CUDA));
  });
});

describe("refuses", () => {
  const refusal = (reason: string | RegExp) => ({
    code: "QEDIT_E_IO",
    message: expect.stringMatching(
      new RegExp(
        `^Cannot take the CUDA provider from [^\\n]*: ${typeof reason === "string" ? reason : reason.source}$`,
      ),
    ),
  });

  test.each([
    ["tarball", () => tarball(folder, "large.tgz", NPM_LAYOUT)],
    ["zip", async () => zipFile(folder, "large.nupkg", NUGET_LAYOUT)],
  ])("a %s with an entry beyond the limit, which may be a bomb", async (_, make) => {
    const limits = { version: VERSION, mostBytes: CUDA.length - 1 };
    await expect(unpackProvider(await make(), target, limits)).rejects.toMatchObject(
      refusal(/an entry is larger than \d+ bytes/),
    );
  });

  test.each([
    [
      "another release",
      () =>
        tarball(folder, "old.tgz", { ...NPM_LAYOUT, [`package/Plugins/Linux/x64/${CUDA_FILE}`]: provider("1.28.0") }),
      "its provider is not of ONNX Runtime 1.29.0, which is installed, and releases do not mix",
    ],
    [
      "another architecture",
      () => tarball(folder, "riscv.tgz", { [`a/${CUDA_FILE}`]: elf({ machine: 243 }), [`a/${SHARED_FILE}`]: SHARED }),
      /its libonnxruntime_providers_cuda\.so is of machine 243, wanted \w+/,
    ],
    [
      "a package without a provider",
      () => tarball(folder, "none.tgz", { "package/readme": "x" }),
      /libonnxruntime_providers_cuda\.so and libonnxruntime_providers_shared\.so are not in it/,
    ],
    [
      "a package with half of it",
      () => zipFile(folder, "half.nupkg", { [`native/${CUDA_FILE}`]: CUDA }),
      /libonnxruntime_providers_shared\.so is not in it/,
    ],
    [
      "a text",
      () => folder.write("readme.txt", "hello ".repeat(200)),
      /it is no \.tgz, no \.nupkg, \.whl or \.zip, and no library/,
    ],
    ["an empty file", () => folder.write("empty.tgz", ""), /it is no \.tgz.*/],
    ["an empty folder", () => (folder.write("nothing/x", ""), folder.at("nothing")), /.* are not in it/],
  ])("%s", async (_, make, reason) => {
    await expect(unpackProvider(await make(), target, { version: VERSION })).rejects.toMatchObject(refusal(reason));
  });

  test("a cut tarball", async () => {
    const bytes = readFileSync(await tarball(folder, "whole.tgz", NPM_LAYOUT));
    await expect(
      unpackProvider(folder.write("cut.tgz", bytes.subarray(0, bytes.length - 100)), target, { version: VERSION }),
    ).rejects.toMatchObject(refusal(/.+/));
  });

  test("a cut zip, and one whose bytes have changed", async () => {
    const bytes = readFileSync(zipFile(folder, "whole.nupkg", NUGET_LAYOUT));
    await expect(
      unpackProvider(folder.write("cut.nupkg", bytes.subarray(0, bytes.length / 2)), target, { version: VERSION }),
    ).rejects.toMatchObject(refusal(/.+/));
    const lying = zip([
      { name: CUDA_FILE, bytes: CUDA, crc: 1 },
      { name: SHARED_FILE, bytes: SHARED },
    ]);
    await expect(
      unpackProvider(folder.write("lying.nupkg", lying), target, { version: VERSION }),
    ).rejects.toMatchObject(refusal(/.*is damaged: its CRC is not the archive's/));
  });

  test("links in place of files", async () => {
    const path = await tarball(folder, "link.tgz", {
      [`a/${SHARED_FILE}`]: SHARED,
      [`a/${CUDA_FILE}`]: "→ /etc/passwd",
    });
    await expect(unpackProvider(path, target, { version: VERSION })).rejects.toMatchObject(
      refusal(/libonnxruntime_providers_cuda\.so is not in it/),
    );
  });
});

describe("a path that leaves the folder lands in it all the same", () => {
  test("of a tarball", async () => {
    const [inside, outside] = [`aa/bb/${CUDA_FILE}`, `../../${CUDA_FILE}`];
    const path = await tarball(folder, "escape.tar", { [inside]: CUDA, [`a/${SHARED_FILE}`]: SHARED }, { gzip: false });
    renamedInTar(path, inside, outside);
    await unpacked(path);
    expect(folder.names()).not.toContain(CUDA_FILE);
  });

  test("of a zip it is refused", async () => {
    const path = zipFile(folder, "escape.nupkg", { [`../../${CUDA_FILE}`]: CUDA, [SHARED_FILE]: SHARED });
    await expect(unpackProvider(path, target, { version: VERSION })).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringMatching(/relative path/),
    });
    expect(folder.names()).not.toContain(CUDA_FILE);
  });
});
