// NVIDIA libraries from Python wheels, without Python: found in a PEP 691 index, verified by its hashes, extracted into qedit's own folder.
import { readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { CUDA_PACKAGES, type CudaPackage, ownLibraries } from "../../engine/cuda/cuda-packages.js";
import { gigabytes } from "../../std/byte-sizes.js";
import { QeditError } from "../../std/errors.js";
import { ioFailure, makeFolders } from "../../std/files.js";
import { freeBytes } from "../download/disk.js";
import { fetchJson } from "../download/fetch-json.js";
import { downloadPackage, type PackageOptions } from "./download-package.js";
import { unpackLibraries } from "./unpack.js";

/** PyPI's index (https://peps.python.org/pep-0691/); PIP_INDEX_URL overrides it, as for pip. */
const INDEX = "https://pypi.org/simple/";

const NO_WHEEL_HINT = "Install CUDA 13 and cuDNN 9 with your system's packages";

/** A wheel of the index. */
export interface Wheel {
  readonly name: string;
  readonly url: string;
  /** Bytes; undefined when the index does not say. */
  readonly bytes: number | undefined;
  readonly sha256: string;
}

/** Upper bound of the size of libraries as a multiple of their wheels. */
const UNPACKED = 2;

/** The newest wheels that hold these libraries, for this machine. Throws QEDIT_E_NETWORK. */
export async function findWheels(sonames: readonly string[], signal: AbortSignal): Promise<Wheel[]> {
  const packages = new Map(
    sonames.flatMap((soname) =>
      Object.hasOwn(CUDA_PACKAGES, soname) ? [[CUDA_PACKAGES[soname]!.name, CUDA_PACKAGES[soname]!]] : [],
    ),
  );
  return Promise.all([...packages.values()].map((each) => findWheel(each, signal)));
}

/** Downloads wheels and extracts their libraries into qedit's own folder. Throws QEDIT_E_NETWORK, and QEDIT_E_IO, without a download when the disk is too full. */
export async function installWheels(wheels: readonly Wheel[], options: PackageOptions): Promise<void> {
  const target = ownLibraries();
  const staging = `${target}.${process.pid}.new`;
  await checkRoom(wheels, dirname(target));
  try {
    await makeFolders(staging);
    await makeFolders(target);
    for (const { name, url, sha256 } of wheels) {
      options.emit({ kind: "note", text: `fetching ${name}: ${url}` });
      const { path } = await downloadPackage({ url, name, digest: { algorithm: "sha256", hex: sha256 } }, options);
      options.emit({ kind: "activity", text: `unpacking ${name}` });
      await unpackLibraries(path, staging);
      await rm(path);
    }
    for (const name of await readdir(staging)) await rename(join(staging, name), join(target, name));
  } catch (error) {
    if (error instanceof QeditError || options.signal.aborted) throw error;
    throw ioFailure("write", target, error);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function checkRoom(wheels: readonly Wheel[], folder: string): Promise<void> {
  const sizes = wheels.map(({ bytes = 0 }) => bytes);
  // Each wheel is removed once extracted.
  const wanted = sizes.reduce((sum, bytes) => sum + bytes, 0) * UNPACKED + Math.max(0, ...sizes);
  const free = await freeBytes(folder).catch(() => undefined);
  if (free === undefined || free >= wanted) return;
  throw new QeditError(
    "QEDIT_E_IO",
    `Cannot write ${folder}: ${gigabytes(free)} are free, wanted ${gigabytes(wanted)}`,
    { hint: "Free some space, or set QEDIT_HOME to a folder on another disk" },
  );
}

// A project of PEP 691's index as far as it is read; files of any other form are passed over.
const project = v.object({
  files: v.array(
    v.fallback(
      v.optional(
        v.object({
          // It becomes the name of a file on disk.
          filename: v.pipe(v.string(), v.regex(/^[\w.+!-]+$/)),
          url: v.string(),
          size: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
          yanked: v.optional(v.union([v.boolean(), v.string()]), false),
          hashes: v.object({ sha256: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/i))) }),
        }),
      ),
      undefined,
    ),
  ),
});

async function findWheel({ name, major }: CudaPackage, signal: AbortSignal): Promise<Wheel> {
  const index = process.env["PIP_INDEX_URL"] || INDEX;
  const url = new URL(`${name}/`, index.endsWith("/") ? index : `${index}/`).href;
  const { files } = await fetchJson(url, project, {
    signal,
    accept: "application/vnd.pypi.simple.v1+json",
    hint: NO_WHEEL_HINT,
  });
  const fitting = files.flatMap((file) => {
    if (file === undefined) return [];
    const { filename, size, yanked, hashes } = file;
    const version = versionOf(filename, name);
    if (version === undefined || Number.parseInt(version, 10) !== major) return [];
    if (yanked !== false || hashes.sha256 === undefined || !URL.canParse(file.url, url)) return [];
    const wheel: Wheel = { name: filename, url: new URL(file.url, url).href, bytes: size, sha256: hashes.sha256 };
    return [{ version, wheel }];
  });
  const newest = fitting.sort((a, b) => b.version.localeCompare(a.version, "en", { numeric: true }))[0];
  if (newest) return newest.wheel;
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot find version ${major} of ${name} for ${process.platform} ${process.arch} at ${url}`,
    { hint: NO_WHEEL_HINT },
  );
}

const MACHINES: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64" };

// The version of a wheel for this machine; undefined for others and for pre-releases, which have letters in their versions.
function versionOf(filename: string, name: string): string | undefined {
  const [distribution, version, , , platform] = filename.replace(/\.whl$/, "").split("-");
  const isFitting =
    filename.endsWith(".whl") && distribution === name.replaceAll("-", "_") && /^[\d.]+$/.test(version ?? "");
  return isFitting && platform?.includes("manylinux") && platform.endsWith(MACHINES[process.arch] ?? "?")
    ? version
    : undefined;
}
