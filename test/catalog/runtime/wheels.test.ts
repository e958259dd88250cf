// NVIDIA's libraries out of wheels, found in an index of the test's own.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { findWheels, installWheels } from "../../../src/catalog/runtime/wheels.js";
import { ownLibraries } from "../../../src/engine/cuda/cuda-packages.js";
import { temporaryFolder } from "../../support/folder.js";
import { zip } from "../../support/zip.js";
import { serve, testServer } from "./server.js";

const server = await testServer();
const folder = temporaryFolder();
const signal = new AbortController().signal;
const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
let count = 0;

beforeEach(() => {
  vi.stubEnv("PIP_INDEX_URL", `${server.url}/simple`);
  vi.stubEnv("QEDIT_HOME", folder.at(`home${count++}`));
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const wheelOf = (paths: readonly string[]) =>
  zip(paths.map((path) => ({ name: path, bytes: Buffer.from(`bytes of ${path}`) })));
const CUBLAS = wheelOf([
  "nvidia/__init__.py",
  "nvidia/cu13/lib/libcublas.so.13",
  "nvidia/cu13/lib/libcublasLt.so.13",
  "nvidia/cu13/include/cublas.h",
  "nvidia_cublas-13.1.dist-info/RECORD",
]);
const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

// An index with these files of nvidia-cublas; every file has the same bytes.
function index(files: readonly ({ filename: string } & Record<string, unknown>)[], bytes = CUBLAS): void {
  server.behave((response, request, number) => {
    if (request.url !== "/simple/nvidia-cublas/")
      return request.url!.startsWith("/files/")
        ? serve(bytes)(response, request, number)
        : void response.writeHead(404).end();
    expect(request.headers.accept).toBe("application/vnd.pypi.simple.v1+json");
    response.end(
      JSON.stringify({
        files: files.map((file) => ({
          url: `/files/${file.filename}`,
          hashes: { sha256: sha256(bytes) },
          size: bytes.length,
          ...file,
        })),
      }),
    );
  });
}

const named = (version: string, platform = `manylinux_2_27_${machine}`) => ({
  filename: `nvidia_cublas-${version}-py3-none-${platform}.whl`,
});

describe("findWheels", () => {
  test("takes the newest release of the major for this machine, once for both of its libraries", async () => {
    const other = machine === "x86_64" ? "aarch64" : "x86_64";
    index([
      named("12.9.1"),
      named("13.9.0"),
      named("13.10.0"),
      named("13.11.0", `manylinux_2_27_${other}`),
      named("13.12.0", "win_amd64"),
      { ...named("13.13.0"), yanked: "broken" },
      named("13.14.0rc1"),
      { filename: "nvidia_cublas-13.15.0.tar.gz" },
      { filename: `nvidia_cublas_extra-13.16.0-py3-none-manylinux_2_27_${machine}.whl` },
      { ...named("13.17.0"), hashes: {} },
      { filename: `nvidia_cublas-13.18.0-py3-none-manylinux/../../${machine}.whl` },
      { ...named("13.19.0"), size: -1 },
      named("14.0.0"),
    ]);
    expect(await findWheels(["libcublas.so.13", "libcublasLt.so.13", "libcuda.so.1"], signal)).toEqual([
      {
        name: named("13.10.0").filename,
        url: `${server.url}/files/${named("13.10.0").filename}`,
        bytes: CUBLAS.length,
        sha256: sha256(CUBLAS),
      },
    ]);
  });

  test("refuses an index without such a release", async () => {
    index([named("12.9.1")]);
    await expect(findWheels(["libcublas.so.13"], signal)).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: expect.stringMatching(/^Cannot find version 13 of nvidia-cublas for [^\n]+$/),
    });
  });
});

describe("installWheels", () => {
  const install = async () =>
    installWheels(await findWheels(["libcublas.so.13"], signal), { folder: folder.at("downloads"), emit() {}, signal });

  test("puts the libraries, and nothing else, into qedit's own folder", async () => {
    index([named("13.1.0")]);
    await install();
    expect(readdirSync(ownLibraries()).sort()).toEqual(["libcublas.so.13", "libcublasLt.so.13"]);
    expect(readFileSync(`${ownLibraries()}/libcublas.so.13`, "utf8")).toBe("bytes of nvidia/cu13/lib/libcublas.so.13");
    expect(readdirSync(folder.at("downloads"))).toEqual([]);
  });

  test("refuses another hash than the index's", async () => {
    index([{ ...named("13.1.0"), hashes: { sha256: "0".repeat(64) } }]);
    await expect(install()).rejects.toMatchObject({
      code: "QEDIT_E_NETWORK",
      message: expect.stringContaining("its sha256 is "),
    });
    expect(existsSync(`${ownLibraries()}/libcublas.so.13`)).toBe(false);
  });

  test("refuses a wheel without libraries", async () => {
    const bytes = wheelOf(["nvidia/__init__.py"]);
    index([named("13.1.0")], bytes);
    await expect(install()).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringMatching(/there are none in it$/),
    });
  });

  test("fetches nothing when the disk has no room for it", async () => {
    index([{ ...named("13.1.0"), size: 1e15 }]);
    await expect(install()).rejects.toMatchObject({
      code: "QEDIT_E_IO",
      message: expect.stringMatching(/^Cannot write .*: [\d.]+ GB are free, wanted 3000000\.0 GB$/),
    });
    expect(server.seen.filter(({ path }) => path.startsWith("/files/"))).toEqual([]);
  });
});
