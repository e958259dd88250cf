// Extracts the CUDA provider from an npm tarball, a NuGet package, a wheel, a release archive, a folder, or the library itself.
// An entry is written under its base name only, so that no path in an archive decides where it goes.
import { createReadStream, createWriteStream } from "node:fs";
import { copyFile, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32, createGunzip } from "node:zlib";
import { Parser } from "tar";
import yauzl from "yauzl";
import { readElf } from "../../engine/cuda/elf.js";
import { PROVIDER_FILES } from "../../engine/cuda/release.js";
import { QeditError } from "../../std/errors.js";
import { ioFailure } from "../../std/files.js";

/** Limit for one entry, bytes, against decompression bombs; the provider of 1.29 has 230 MB. */
const MOST_BYTES = 2 * 1024 ** 3;

/** Bytes of a file that identify its format; the magic of a tar is at 257. */
const HEAD = 512;

/** Extracts PROVIDER_FILES from a file or folder into a folder. Throws QEDIT_E_IO when they are missing, truncated, or for another architecture or release. */
export async function unpackProvider(
  source: string,
  folder: string,
  { version, mostBytes = MOST_BYTES }: { version: string; mostBytes?: number },
): Promise<void> {
  const found = new Set<string>();
  try {
    await unpack(source, { folder, found, mostBytes });
  } catch (error) {
    throw error instanceof QeditError
      ? error
      : refuse(
          source,
          (error as NodeJS.ErrnoException).code === "ENOSPC"
            ? ioFailure("write", folder, error).message
            : messageOf(error),
        );
  }
  const missing = PROVIDER_FILES.filter((name) => !found.has(name));
  if (missing.length > 0)
    throw refuse(source, `${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"} not in it`);
  for (const name of PROVIDER_FILES) {
    const { architecture } = await readElf(join(folder, name));
    if (architecture !== process.arch)
      throw refuse(source, `its ${name} is of ${architecture}, wanted ${process.arch}`);
  }
  if (!(await names(join(folder, PROVIDER_FILES[0]), version))) {
    throw refuse(source, `its provider is not of ONNX Runtime ${version}, which is installed, and releases do not mix`);
  }
}

/** Where entries go. */
interface Target {
  readonly folder: string;
  /** Names that were written. */
  readonly found: Set<string>;
  /** Limit for one entry, bytes. */
  readonly mostBytes: number;
}

async function unpack(source: string, target: Target): Promise<void> {
  const { folder, found } = target;
  if ((await stat(source)).isDirectory()) return copyFrom(await providerIn(source), folder, found);
  const head = await headOf(source);
  if (head.readUInt32BE(0) === 0x7f454c46) return copyFrom(dirname(source), folder, found, basename(source));
  if (head.readUInt16BE(0) === 0x504b) return unzip(source, target);
  if (head.readUInt16BE(0) === 0x1f8b) return untar(createReadStream(source), [createGunzip()], target);
  if (head.toString("latin1", 257, 262) === "ustar") return untar(createReadStream(source), [], target);
  throw new Error("it is no .tgz, no .nupkg, .whl or .zip, and no library");
}

// The folder of the provider in an unpacked package.
async function providerIn(folder: string): Promise<string> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const place = entries.find(
    (entry) => entry.name === PROVIDER_FILES[0] && isForThisMachine(join(entry.parentPath, entry.name)),
  );
  return place?.parentPath ?? folder;
}

async function copyFrom(
  from: string,
  folder: string,
  found: Set<string>,
  provider: string = PROVIDER_FILES[0],
): Promise<void> {
  for (const [name, existing] of [
    [PROVIDER_FILES[0], provider],
    [PROVIDER_FILES[1], PROVIDER_FILES[1]],
  ] as const) {
    if (!(await stat(join(from, existing)).catch(() => undefined))) continue;
    await copyFile(join(from, existing), join(folder, name));
    found.add(name);
  }
}

async function untar(file: Readable, through: Transform[], { folder, found, mostBytes }: Target): Promise<void> {
  const writing: Promise<void>[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry(entry) {
      const name = wantedName(entry.path);
      if (name === undefined || found.has(name) || entry.type !== "File") return void entry.resume();
      found.add(name);
      // The pipeline below fails with the same error; this only prevents an unhandled rejection.
      const written = pipeline(entry as unknown as Readable, limited(mostBytes), createWriteStream(join(folder, name)));
      written.catch((error: Error) => parser.abort(error));
      writing.push(written);
    },
  });
  await pipeline([file, ...through, parser as unknown as NodeJS.WritableStream]);
  await Promise.all(writing);
}

/** Extracts the shared libraries of an NVIDIA wheel into a folder, each under its base name. Throws QEDIT_E_IO when there are none, or they are damaged. */
export async function unpackLibraries(wheel: string, folder: string): Promise<void> {
  const found = new Set<string>();
  try {
    await unzip(wheel, { folder, found, mostBytes: MOST_BYTES }, (path) => LIBRARY.exec(path)?.[1]);
  } catch (error) {
    throw error instanceof QeditError ? error : ioFailure("write", folder, error);
  }
  if (found.size === 0)
    throw new QeditError("QEDIT_E_IO", `Cannot take libraries from ${wheel}: there are none in it`, {
      hint: "Install CUDA 13 and cuDNN 9 with your system's packages",
    });
}

/** Libraries in NVIDIA wheels: `nvidia/cu13/lib/libcublas.so.13`. */
const LIBRARY = /^nvidia\/[^/]+\/lib\/(lib[\w.+-]+\.so[\d.]*)$/;

async function unzip(
  path: string,
  { folder, found, mostBytes }: Target,
  nameOf: (path: string) => string | undefined = wantedName,
): Promise<void> {
  const zip = await yauzl.openPromise(path, { lazyEntries: true, autoClose: false });
  try {
    for await (const entry of zip.eachEntry()) {
      const name = nameOf(entry.fileName);
      if (name === undefined || found.has(name)) continue;
      found.add(name);
      const sum = { crc: 0 };
      await pipeline(
        await zip.openReadStreamPromise(entry),
        limited(mostBytes, sum),
        createWriteStream(join(folder, name)),
      );
      if (sum.crc !== entry.crc32) throw new Error(`${entry.fileName} is damaged: its CRC is not the archive's`);
    }
  } finally {
    zip.close();
  }
}

function wantedName(path: string): string | undefined {
  const name = path.split(/[\\/]/).at(-1)!;
  return (PROVIDER_FILES as readonly string[]).includes(name) && isForThisMachine(path) ? name : undefined;
}

// A package for several architectures has them in its paths; the ELF header is checked afterwards.
function isForThisMachine(path: string): boolean {
  return !/arm64|aarch64/i.test(path);
}

// Passes bytes on up to the limit, computing their CRC-32.
function limited(most: number, sum = { crc: 0 }): Transform {
  let bytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      sum.crc = crc32(chunk, sum.crc);
      done(bytes > most ? new Error(`an entry is larger than ${most} bytes`) : null, chunk);
    },
  });
}

async function headOf(path: string): Promise<Buffer> {
  const file = await open(path);
  try {
    const head = Buffer.alloc(HEAD);
    await file.read(head, 0, HEAD, 0);
    return head;
  } finally {
    await file.close();
  }
}

// The provider contains its release as a C string.
async function names(path: string, version: string): Promise<boolean> {
  const wanted = Buffer.from(`\0${version}\0`, "latin1");
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 22 })) {
    const window = Buffer.concat([rest, chunk as Buffer]);
    if (window.includes(wanted)) return true;
    rest = window.subarray(-wanted.length);
  }
  return false;
}

function refuse(source: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_IO", `Cannot take the CUDA provider from ${source}: ${reason}`, {
    hint: "`qedit setup` gets the one that fits",
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
