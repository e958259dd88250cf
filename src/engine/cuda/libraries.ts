// The shared libraries that the CUDA provider needs, from its ELF file: which are found, where, and whether the dynamic loader searches there.
import { execFile } from "node:child_process";
import { realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { type Elf, readElf } from "./elf.js";
import { hiddenFolders, type SearchedFolder, searchedFolders } from "./library-folders.js";
import { PROVIDER_FILES } from "./release.js";

/** Libraries that the provider opens when a kernel first needs them, so that its ELF file does not list them; sonames of its CUDA 13 build (onnxruntime PR 29252). */
const LAZY = {
  /** Convolutions, and so the VAE, and the fastest attention. */
  "libcudnn.so.9": "the VAE's convolutions",
  /** Fourier transforms; qedit has none. */
  "libcufft.so.12": undefined,
  /** Kernels that cuDNN compiles while running. */
  "libnvrtc.so.13": undefined,
} as const;

/** A library that was found. */
export interface FoundLibrary {
  readonly soname: string;
  readonly path: string;
  /** Where it was found, for messages: `LD_LIBRARY_PATH`, `ldconfig`, `Python's nvidia packages`, … */
  readonly source: string;
  /** Whether the dynamic loader finds it by itself. */
  readonly isSearched: boolean;
  /** What needs it: a file name, or a part of qedit. */
  readonly neededBy: string;
}

/** A library that was not found. */
export interface MissingLibrary {
  readonly soname: string;
  readonly neededBy: string;
  /** Files of that name that cannot be used, and why. */
  readonly unfit: readonly string[];
}

/** The libraries that the provider needs; `found` is in an order in which they can be loaded. */
export interface LibraryReport {
  readonly found: readonly FoundLibrary[];
  readonly missing: readonly MissingLibrary[];
  /** Missing libraries that only kernels open which qedit does not use. */
  readonly unused: readonly MissingLibrary[];
}

/** Libraries of CUDA and the driver that the provider of 1.29 needs; used when there is no provider to read them from. */
const DEFAULT_NEEDED = ["libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13", "libcuda.so.1"];

/**
 * Finds the libraries that the provider in a folder needs, directly or through others; without a provider, those that 1.29 needs.
 * Throws QEDIT_E_IO when the provider is not a shared library.
 */
export async function inspectLibraries(folder: string | undefined): Promise<LibraryReport> {
  const provider = join(folder ?? "", PROVIDER_FILES[0]);
  const elf: Elf =
    folder === undefined
      ? { architecture: process.arch, soname: undefined, needed: DEFAULT_NEEDED, runpath: [] }
      : await readElf(provider);
  const search = { searched: await searchedFolders(), hidden: await hiddenFolders(), cache: await loaderCache() };
  const found = new Map<string, FoundLibrary>();
  const missing = new Map<string, MissingLibrary>();
  const seen = new Set<string>();
  const visit = async (soname: string, needed: Elf & { readonly path: string }, neededBy: string): Promise<void> => {
    // Libraries may depend on each other in a cycle.
    if (seen.has(soname)) return;
    seen.add(soname);
    const { library, unfit } = await findLibrary(soname, needed, search);
    if (!library) return void missing.set(soname, { soname, neededBy, unfit });
    for (const each of library.needed) await visit(each, library, soname);
    // After its own dependencies, so that loading in this order works.
    found.set(soname, { soname, path: library.path, source: library.source, isSearched: library.isSearched, neededBy });
  };
  for (const soname of elf.needed) await visit(soname, { ...elf, path: provider }, PROVIDER_FILES[0]);
  for (const [soname, use] of Object.entries(LAZY)) await visit(soname, { ...elf, path: provider }, use ?? LAZY_UNUSED);
  const all = [...missing.values()];
  return {
    found: [...found.values()],
    missing: all.filter(({ neededBy }) => neededBy !== LAZY_UNUSED),
    unused: all.filter(({ neededBy }) => neededBy === LAZY_UNUSED),
  };
}

const LAZY_UNUSED = "nothing that qedit computes";

interface Search {
  readonly searched: readonly SearchedFolder[];
  readonly hidden: readonly SearchedFolder[];
  readonly cache: ReadonlyMap<string, string>;
}

type Candidate = Elf & { readonly path: string; readonly source: string; readonly isSearched: boolean };

// In the order of ld.so(8): LD_LIBRARY_PATH, the run path of the dependent file, the cache, the system's folders; then folders that ld.so does not search.
async function findLibrary(
  soname: string,
  by: Elf & { readonly path: string },
  { searched, hidden, cache }: Search,
): Promise<{ library: Candidate | undefined; unfit: string[] }> {
  const runpath = by.runpath.map((folder) => ({
    folder: folder.replace(/\$ORIGIN|\$\{ORIGIN\}/g, dirname(by.path)),
    source: "run path",
  }));
  const [first, later] = [
    searched.filter(({ source }) => source === "LD_LIBRARY_PATH"),
    searched.filter(({ source }) => source !== "LD_LIBRARY_PATH"),
  ];
  const cached = cache.get(soname);
  const places = [
    ...[...first, ...runpath].map(({ folder, source }) => ({ path: join(folder, soname), source, isSearched: true })),
    ...(cached === undefined ? [] : [{ path: cached, source: "ldconfig", isSearched: true }]),
    ...later.map(({ folder, source }) => ({ path: join(folder, soname), source, isSearched: true })),
    ...hidden.map(({ folder, source }) => ({ path: join(folder, soname), source, isSearched: false })),
  ];
  const unfit = new Map<string, string>();
  for (const place of places) {
    const elf = await elfAt(place.path);
    if (elf === undefined) continue;
    if (typeof elf === "string") unfit.set(place.path, elf);
    // The toolkit's stub for linking has the name of the driver's library, and none of its functions.
    else if (/[/]stubs[/]/.test(await realpath(place.path))) unfit.set(place.path, "it is the toolkit's stub");
    else if (elf.architecture !== process.arch) unfit.set(place.path, `it is of ${elf.architecture}`);
    else return { library: { ...elf, ...place }, unfit: [] };
  }
  return { library: undefined, unfit: [...unfit].map(([path, reason]) => `${path}: ${reason}`) };
}

// The file's dynamic section, why it has none, or undefined when there is no such file.
async function elfAt(path: string): Promise<Elf | string | undefined> {
  try {
    return await readElf(path);
  } catch (error) {
    const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
    if (cause?.code === "ENOENT" || cause?.code === "ENOTDIR") return undefined;
    return error instanceof Error ? error.message : String(error);
  }
}

const LINE = /^\t(\S+) \(([^)]*)\) => (.+)$/;

/** ldconfig's name of an architecture. */
const CACHE_ARCHITECTURE: Readonly<Record<string, string>> = { x64: "x86-64", arm64: "AArch64" };

/** Paths by soname from ldconfig's cache; empty where there is no ldconfig. */
async function loaderCache(): Promise<ReadonlyMap<string, string>> {
  const paths = new Map<string, string>();
  for (const program of ["ldconfig", "/sbin/ldconfig", "/usr/sbin/ldconfig"]) {
    const printed = await promisify(execFile)(program, ["-p"], { maxBuffer: 2 ** 26, timeout: 10_000 }).catch(
      () => undefined,
    );
    if (!printed) continue;
    for (const line of printed.stdout.split("\n")) {
      const [, soname, kind, path] = LINE.exec(line) ?? [];
      // The loader uses the first of a name.
      if (
        soname !== undefined &&
        path !== undefined &&
        kind?.includes(CACHE_ARCHITECTURE[process.arch] ?? "") &&
        !paths.has(soname)
      )
        paths.set(soname, path);
    }
    break;
  }
  return paths;
}
