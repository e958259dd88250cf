// Small shared libraries as bytes: headers, one segment and a dynamic section, as ld.so and readElf read them.

/** What the library says about itself. */
export interface Written {
  readonly soname?: string;
  readonly needed?: readonly string[];
  readonly runpath?: string;
  /** ELF's number of the machine; 62 is x64, 183 is arm64. */
  readonly machine?: number;
  /** Bytes after everything else, such as a release's name. */
  readonly rest?: string;
}

const MACHINE = { x64: 62, arm64: 183 } as const;

/** A library of this machine unless said otherwise. */
export function elf({
  soname,
  needed = [],
  runpath,
  machine = MACHINE[process.arch as "x64"],
  rest = "",
}: Written = {}): Buffer {
  let strings = "\0";
  const at = (text: string) => {
    strings += `${text}\0`;
    return strings.length - text.length - 1;
  };
  const entries: (readonly [tag: number, value: number])[] = needed.map((name) => [1, at(name)] as const);
  if (soname !== undefined) entries.push([14, at(soname)]);
  if (runpath !== undefined) entries.push([29, at(runpath)]);
  const dynamicStart = 64 + 2 * 56;
  const stringStart = dynamicStart + (entries.length + 3) * 16;
  // Addresses differ from offsets, as they do in real libraries.
  const base = 0x1000;
  entries.push([5, base + stringStart], [10, strings.length], [0, 0]);

  const bytes = Buffer.alloc(stringStart);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeUInt16LE(3, 16);
  bytes.writeUInt16LE(machine, 18);
  bytes.writeUInt32LE(1, 20);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(64, 52);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(2, 56);
  const whole = stringStart + strings.length;
  segment(bytes, 64, [1, 0, base, whole]);
  segment(bytes, 120, [2, dynamicStart, base + dynamicStart, entries.length * 16]);
  entries.forEach(([tag, value], index) => {
    bytes.writeBigUInt64LE(BigInt(tag), dynamicStart + index * 16);
    bytes.writeBigUInt64LE(BigInt(value), dynamicStart + index * 16 + 8);
  });
  return Buffer.concat([bytes, Buffer.from(strings), Buffer.from(rest)]);
}

/** What stands in for a provider of a release: it needs CUDA's libraries, and names the release as the real one does. */
export function provider(
  version: string,
  needed: readonly string[] = ["libcublas.so.13", "libcuda.so.1", "libc.so.6"],
): Buffer {
  return elf({ needed, rest: `\0${version}\0` });
}

function segment(
  bytes: Buffer,
  at: number,
  [kind, offset, address, length]: readonly [number, number, number, number],
): void {
  bytes.writeUInt32LE(kind, at);
  bytes.writeUInt32LE(5, at + 4);
  [offset, address, address, length, length, 0x1000].forEach((value, index) =>
    bytes.writeBigUInt64LE(BigInt(value), at + 8 + index * 8),
  );
}
