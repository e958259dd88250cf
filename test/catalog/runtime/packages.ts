// Packages with a small provider in them, in the layouts of the real ones.
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { create } from "tar";
import { elf, provider } from "../../support/elf.js";
import type { TemporaryFolder } from "../../support/folder.js";
import { zip } from "../../support/zip.js";

/** The release that tests stand for. */
export const VERSION = "1.29.0";

/** A provider of that release, and the bridge beside it. */
export const CUDA = provider(VERSION);
export const SHARED = elf({ soname: "libonnxruntime_providers_shared.so" });

/** The names of the two. */
export const [CUDA_FILE, SHARED_FILE] = [
  "libonnxruntime_providers_cuda.so",
  "libonnxruntime_providers_shared.so",
] as const;

/** Files by path, with a link where the value says `→ target`. */
export type Files = Readonly<Record<string, Uint8Array | string>>;

/** The npm package's layout. */
export const NPM_LAYOUT: Files = {
  "package/package.json": "{}",
  [`package/Plugins/Linux/x64/${CUDA_FILE}`]: CUDA,
  [`package/Plugins/Linux/x64/${CUDA_FILE}.meta`]: "meta",
  [`package/Plugins/Linux/x64/${SHARED_FILE}`]: SHARED,
};

/** The NuGet package's layout. */
export const NUGET_LAYOUT: Files = {
  "[Content_Types].xml": "<Types/>",
  [`runtimes/linux-x64/native/${CUDA_FILE}`]: CUDA,
  [`runtimes/linux-x64/native/${SHARED_FILE}`]: SHARED,
  "runtimes/linux-x64/native/libonnxruntime_providers_tensorrt.so": elf(),
};

/** Writes a .tgz of these files into a folder; gives its path. */
export async function tarball(
  folder: TemporaryFolder,
  name: string,
  files: Files,
  { gzip = true } = {},
): Promise<string> {
  const root = folder.at(`${name}.files`);
  rmSync(root, { recursive: true, force: true });
  for (const [path, content] of Object.entries(files)) {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    if (typeof content === "string" && content.startsWith("→ ")) symlinkSync(content.slice(2), file);
    else writeFileSync(file, content);
  }
  await create({ file: folder.at(name), cwd: root, gzip }, Object.keys(files));
  return folder.at(name);
}

/** Writes a zip of these files, which is what .nupkg and .whl are; gives its path. */
export function zipFile(folder: TemporaryFolder, name: string, files: Files): string {
  return folder.write(
    name,
    zip(Object.entries(files).map(([path, content]) => ({ name: path, bytes: Buffer.from(content) }))),
  );
}

/** A tar with a header's path replaced by another of the same length, as tar itself would refuse to write. */
export function renamedInTar(path: string, from: string, to: string): void {
  const bytes = readFileSync(path);
  const at = bytes.indexOf(from);
  bytes.write(to, at, "latin1");
  const header = bytes.subarray(at - (at % 512), at - (at % 512) + 512);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  writeFileSync(path, bytes);
}
