// Reads what the dynamic loader reads of an ELF file: its machine, soname, needed libraries and run path.
// System V ABI, chapters 4 and 5 (https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html); 64-bit little-endian only, like all builds of ONNX Runtime.
import { type FileHandle, open } from "node:fs/promises";
import { QeditError } from "../../std/errors.js";
import { ioFailure, readRange } from "../../std/files.js";

/** The dynamic section of a shared library or program. */
export interface Elf {
  /** Node's name of the architecture, `x64` or `arm64`; `machine N` for others. */
  readonly architecture: string;
  readonly soname: string | undefined;
  /** DT_NEEDED: sonames of the libraries it depends on, in order. */
  readonly needed: readonly string[];
  /** DT_RUNPATH, else DT_RPATH: folders that are searched for them; `$ORIGIN` is the file's own. */
  readonly runpath: readonly string[];
}

const ARCHITECTURES: Readonly<Record<number, string>> = { 62: "x64", 183: "arm64" };

/** Lengths of the file's header and of one entry of its tables, in bytes. */
const HEADER = 64;
const SEGMENT = 56;
const ENTRY = 16;

/** Kinds of segments, and tags of the dynamic section. */
const PT = { load: 1, dynamic: 2 } as const;
const DT = { needed: 1, stringTable: 5, stringTableSize: 10, soname: 14, rpath: 15, runpath: 29 } as const;

/** Limit of a table in bytes, more than any library has: a larger number is damage. */
const MAX_BYTES = 64 * 1024 ** 2;

/** Reads a file's dynamic section. Throws QEDIT_E_IO for a file that cannot be read or is not a 64-bit ELF file. */
export async function readElf(path: string): Promise<Elf> {
  let file: FileHandle | undefined;
  try {
    file = await open(path);
    return await readDynamic(file, path);
  } catch (error) {
    throw error instanceof QeditError ? error : ioFailure("read", path, error);
  } finally {
    await file?.close();
  }
}

interface Segment {
  readonly kind: number;
  readonly offset: number;
  readonly address: number;
  readonly length: number;
}

async function readDynamic(file: FileHandle, path: string): Promise<Elf> {
  const refuse = (reason: string) =>
    new QeditError("QEDIT_E_IO", `Cannot read ${path} as a shared library: ${reason}`, {
      hint: "The file may be cut or of another system",
    });
  const { size } = await file.stat();
  const range = async (offset: number, length: number): Promise<DataView> => {
    if (length > MAX_BYTES || offset + length > size)
      throw refuse(`it ends at byte ${size}, wanted ${offset + length}`);
    return new DataView((await readRange(file, offset, length)).buffer);
  };
  if (size < HEADER) throw refuse("it is too short");
  const header = await range(0, HEADER);
  if (header.getUint32(0) !== 0x7f454c46) throw refuse("it is no ELF file");
  if (header.getUint8(4) !== 2 || header.getUint8(5) !== 1) throw refuse("it is not of 64 bits, little-endian");
  const machine = header.getUint16(18, true);
  const architecture = ARCHITECTURES[machine] ?? `machine ${machine}`;
  const segments = segmentsOf(await range(large(header, 32), header.getUint16(56, true) * SEGMENT));
  const dynamic = segments.find(({ kind }) => kind === PT.dynamic);
  // A statically linked program.
  if (!dynamic) return { architecture, soname: undefined, needed: [], runpath: [] };

  const entries = entriesOf(await range(dynamic.offset, dynamic.length));
  const last = (tag: number) => entries.findLast((entry) => entry.tag === tag)?.value;
  const address = last(DT.stringTable) ?? 0;
  const segment = segments.find(
    (each) => each.kind === PT.load && address >= each.address && address < each.address + each.length,
  );
  if (!segment) throw refuse("its string table lies outside of it");
  const strings = await range(address - segment.address + segment.offset, last(DT.stringTableSize) ?? 0);
  const text = (offset: number) => stringAt(strings, offset) ?? "";
  const folders = last(DT.runpath) ?? last(DT.rpath);
  const soname = last(DT.soname);
  return {
    architecture,
    soname: soname === undefined ? undefined : text(soname),
    needed: entries.filter(({ tag }) => tag === DT.needed).map(({ value }) => text(value)),
    runpath:
      folders === undefined
        ? []
        : text(folders)
            .split(":")
            .filter((folder) => folder !== ""),
  };
}

function segmentsOf(table: DataView): Segment[] {
  return Array.from({ length: table.byteLength / SEGMENT }, (_, index) => {
    const at = index * SEGMENT;
    return {
      kind: table.getUint32(at, true),
      offset: large(table, at + 8),
      address: large(table, at + 16),
      length: large(table, at + 32),
    };
  });
}

function entriesOf(table: DataView): { tag: number; value: number }[] {
  const entries: { tag: number; value: number }[] = [];
  for (let at = 0; at + ENTRY <= table.byteLength; at += ENTRY) {
    const tag = large(table, at);
    if (tag === 0) break;
    entries.push({ tag, value: large(table, at + 8) });
  }
  return entries;
}

function stringAt(strings: DataView, offset: number): string | undefined {
  if (offset >= strings.byteLength) return undefined;
  const bytes = new Uint8Array(strings.buffer, strings.byteOffset + offset);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

// Addresses in shared libraries and file sizes are far below 2^53.
function large(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}
