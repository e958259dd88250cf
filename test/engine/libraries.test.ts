// Finding the provider's libraries, in temporary folders.
import { symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { inspectLibraries } from "../../src/engine/cuda/libraries.js";
import { elf, provider } from "../support/elf.js";
import { temporaryFolder } from "../support/folder.js";

const PROVIDER = "libonnxruntime_providers_cuda.so";
const folder = temporaryFolder();
let home = "";
let count = 0;

beforeEach(() => {
  home = folder.at(`home${count++}`);
  vi.stubEnv("HOME", home);
  for (const name of [
    "XDG_DATA_HOME",
    "QEDIT_HOME",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
  ])
    vi.stubEnv(name, "");
});
afterEach(() => {
  vi.unstubAllEnvs();
});

// Writes a library, of a name that no machine has, below this test's home.
const write = (name: string, bytes: Buffer) => folder.write(join(home.slice(folder.path.length + 1), name), bytes);
const providerOf = (needed: readonly string[], options: Parameters<typeof elf>[0] = {}) =>
  dirname(write(`provider/${PROVIDER}`, elf({ needed, ...options })));
const SITE = ".local/lib/python3.12/site-packages/nvidia";

describe.runIf(process.platform === "linux")("inspectLibraries", () => {
  test("finds the system's libraries with their dependencies, in an order in which they load", async () => {
    const { found, missing } = await inspectLibraries(
      dirname(write(`provider/${PROVIDER}`, provider("1.29.0", ["libstdc++.so.6"]))),
    );
    const order = found.map(({ soname }) => soname);
    expect(order).toEqual(expect.arrayContaining(["libstdc++.so.6", "libm.so.6", "libc.so.6"]));
    expect(order.indexOf("libc.so.6")).toBeLessThan(order.indexOf("libstdc++.so.6"));
    expect(found.every(({ isSearched }) => isSearched)).toBe(true);
    expect(missing.map(({ soname }) => soname)).not.toContain("libstdc++.so.6");
  });

  test("reports a library that does not exist, and what needs it", async () => {
    const { missing } = await inspectLibraries(providerOf(["libqedit_none.so.1"]));
    expect(missing).toContainEqual({ soname: "libqedit_none.so.1", neededBy: PROVIDER, unfit: [] });
  });

  test("follows the dependencies of a found library", async () => {
    vi.stubEnv("LD_LIBRARY_PATH", dirname(write("libs/libqedit_a.so.1", elf({ needed: ["libqedit_b.so.1"] }))));
    const { missing } = await inspectLibraries(providerOf(["libqedit_a.so.1"]));
    expect(missing).toContainEqual({ soname: "libqedit_b.so.1", neededBy: "libqedit_a.so.1", unfit: [] });
  });

  test("ends when two libraries depend on each other", async () => {
    write("libs/libqedit_a.so.1", elf({ needed: ["libqedit_b.so.1"] }));
    vi.stubEnv("LD_LIBRARY_PATH", dirname(write("libs/libqedit_b.so.1", elf({ needed: ["libqedit_a.so.1"] }))));
    const { found } = await inspectLibraries(providerOf(["libqedit_a.so.1"]));
    expect(found.map(({ soname }) => soname).sort()).toEqual(["libqedit_a.so.1", "libqedit_b.so.1"]);
  });

  test.each([
    [
      "LD_LIBRARY_PATH",
      "any/where",
      (path: string) => vi.stubEnv("LD_LIBRARY_PATH", `/nowhere:${path}`),
      "LD_LIBRARY_PATH",
      true,
    ],
    ["the provider's own run path", "provider/lib", () => undefined, "run path", true],
    ["Python's packages of the user", `${SITE}/cublas/lib`, () => undefined, "Python's nvidia packages", false],
    [
      "a virtual environment",
      "venv/lib/python3.11/site-packages/nvidia/cu13/lib",
      () => vi.stubEnv("VIRTUAL_ENV", join(home, "venv")),
      "Python's nvidia packages",
      false,
    ],
    ["qedit's own folder", ".local/share/qedit/runtime/cuda-13", () => undefined, "qedit setup", false],
    [
      "a toolkit that CUDA_HOME names",
      "cuda/lib64",
      () => vi.stubEnv("CUDA_HOME", join(home, "cuda")),
      "the CUDA toolkit",
      false,
    ],
    ["conda", "conda/lib", () => vi.stubEnv("CONDA_PREFIX", join(home, "conda")), "conda", false],
  ] as const)("finds a library in %s", async (_, place, prepare, source, isSearched) => {
    const path = write(`${place}/libqedit_a.so.1`, elf({ soname: "libqedit_a.so.1" }));
    prepare(dirname(path));
    const { found } = await inspectLibraries(providerOf(["libqedit_a.so.1"], { runpath: "$ORIGIN/lib" }));
    expect(found).toEqual([{ soname: "libqedit_a.so.1", path, source, isSearched, neededBy: PROVIDER }]);
  });

  test("prefers a library that the loader finds by itself", async () => {
    write(`${SITE}/cublas/lib/libqedit_a.so.1`, elf());
    const path = write("libs/libqedit_a.so.1", elf());
    vi.stubEnv("LD_LIBRARY_PATH", dirname(path));
    expect((await inspectLibraries(providerOf(["libqedit_a.so.1"]))).found).toMatchObject([{ path, isSearched: true }]);
  });

  test("skips the other architecture, stubs and broken files, and reports them when nothing else is found", async () => {
    const foreign = write("foreign/libqedit_a.so.1", elf({ machine: process.arch === "x64" ? 183 : 62 }));
    const stub = write("cuda/lib64/stubs/libqedit_a.so.1", elf());
    const broken = write("broken/libqedit_a.so.1", Buffer.from("INPUT(libqedit_a.so)"));
    symlinkSync(stub, join(dirname(write("linked/readme", Buffer.from(""))), "libqedit_a.so.1"));
    vi.stubEnv("LD_LIBRARY_PATH", [foreign, stub, broken].map(dirname).concat(join(home, "linked")).join(":"));
    const folderOfProvider = providerOf(["libqedit_a.so.1"]);
    const { missing } = await inspectLibraries(folderOfProvider);
    expect(missing.find(({ soname }) => soname === "libqedit_a.so.1")?.unfit).toEqual([
      `${foreign}: it is of ${process.arch === "x64" ? "arm64" : "x64"}`,
      `${stub}: it is the toolkit's stub`,
      `${broken}: Cannot read ${broken} as a shared library: it is too short`,
      `${join(home, "linked", "libqedit_a.so.1")}: it is the toolkit's stub`,
    ]);
    const path = write(`${SITE}/cublas/lib/libqedit_a.so.1`, elf());
    expect((await inspectLibraries(folderOfProvider)).found).toMatchObject([{ path }]);
  });

  test("needs cuDNN, which the provider opens later, and no library that qedit does not use", async () => {
    write(`${SITE}/cudnn/lib/libcudnn.so.9`, elf());
    const { found, missing } = await inspectLibraries(providerOf([]));
    expect(
      [...found, ...missing].filter(({ soname }) => /cufft|nvrtc/.test(soname) === false).map(({ soname }) => soname),
    ).toEqual(["libcudnn.so.9"]);
    expect(missing).toEqual([]);
  });

  test("needs the default libraries without a provider", async () => {
    const { found, missing } = await inspectLibraries(undefined);
    const asked = [...found, ...missing].map(({ soname }) => soname);
    expect(asked).toEqual(
      expect.arrayContaining([
        "libcublasLt.so.13",
        "libcublas.so.13",
        "libcurand.so.10",
        "libcudart.so.13",
        "libcuda.so.1",
        "libcudnn.so.9",
      ]),
    );
  });

  test("refuses a provider that is not a shared library", async () => {
    await expect(inspectLibraries(dirname(write(`junk/${PROVIDER}`, Buffer.from("junk"))))).rejects.toMatchObject({
      code: "QEDIT_E_IO",
    });
  });
});
