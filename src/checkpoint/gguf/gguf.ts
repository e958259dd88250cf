// GGUF files as checkpoints under the published keys: a transformer, or a language model with the vision tower (mmproj) beside it. Blocks are
// named as they are stored: packed-file.ts says how they can be computed with.
import { type FileHandle, readdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { QeditError } from "../../std/errors.js";
import { readRange } from "../../std/files.js";
import type { Checkpoint } from "../checkpoint.js";
import type { WeightsIdentity } from "../file-identity.js";
import { type Source, withLocated } from "../located-file.js";
import {
  GGUF_MAGIC,
  type GgufHeader,
  type GgufValue,
  MAX_HEADER_BYTES,
  MoreBytesWanted,
  parseGguf,
} from "./gguf-header.js";
import { languageConfigOf, languageTensors, partOfGguf, visionConfigOf, visionTensors } from "./gguf-names.js";

/** Types of a vision tower, the one to take first. */
const PRECISE = [/bf16/i, /f32/i, /f16/i];
/** Bytes of a file that are read first; text encoders, which have a vocabulary in their header, need some more. */
const FIRST_BYTES = 1 << 20;
/** A vision tower's file, by its name. */
const VISION_NAME = /mmproj.*\.gguf$/i;
/** What names of files of one model differ in: the part, and the type. */
const VARIANT = /mmproj|[-_.](bf16|f16|f32|fp16|q\d[\w]*|ud|iq\w+)(?=[-_.]|$)|[-_.]+|gguf/gi;

/** Whether bytes begin as a GGUF file does. */
export function isGguf(start: Uint8Array): boolean {
  return new TextDecoder("latin1").decode(start.subarray(0, GGUF_MAGIC.length)) === GGUF_MAGIC;
}

/**
 * The tensors of an open GGUF file, from its header alone, with those of the vision tower beside it. Throws QEDIT_E_CHECKPOINT when it is not a
 * complete, well-formed file of an architecture that qedit runs.
 */
export async function readGguf(
  handle: FileHandle,
  source: Source,
  { identity }: { readonly identity?: WeightsIdentity | undefined },
): Promise<Checkpoint> {
  const header = await headerOf(handle, source, identity);
  const part = partOfGguf(header);
  const { name: file } = source;
  refuseParts(header, file);
  const metadata = textsOf(header.values);
  // Tools that convert with the model's own keys write no architecture, or their own word for it.
  if (part === undefined) return { file, tensors: header.tensors, metadata };
  if (part === "vision")
    return {
      file,
      tensors: visionTensors(header, file),
      metadata: { ...metadata, config: JSON.stringify(visionConfigOf(header)) },
    };
  const vision = await visionBeside(source.file, identity);
  const config = { ...languageConfigOf(header), ...(vision && visionConfigOf(vision.header)) };
  return {
    file,
    tensors: new Map([...languageTensors(header), ...(vision ? visionTensors(vision.header, vision.file) : [])]),
    metadata: { ...metadata, config: JSON.stringify(config) },
  };
}

async function headerOf(
  handle: FileHandle,
  source: Source,
  identity: WeightsIdentity | undefined,
): Promise<GgufHeader> {
  for (let wanted = FIRST_BYTES; ; wanted *= 4) {
    const start = await readRange(handle, 0, Math.min(wanted, source.size, MAX_HEADER_BYTES));
    try {
      const header = parseGguf(start, source);
      await identity?.take({ handle, ...source, start: start.subarray(0, header.length) });
      return header;
    } catch (error) {
      if (!(error instanceof MoreBytesWanted)) throw error;
    }
  }
}

// llama.cpp cuts large files into parts that only together have all tensors.
function refuseParts({ values }: GgufHeader, file: string): void {
  const parts = values.get("split.count");
  if (typeof parts !== "number" || parts < 2) return;
  throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${file}: it is one of ${parts} parts`, {
    hint: "Put the parts together with llama-gguf-split of llama.cpp",
  });
}

async function visionBeside(
  path: string,
  identity: WeightsIdentity | undefined,
): Promise<{ readonly header: GgufHeader; readonly file: string } | undefined> {
  const choose = () => visionFile(path);
  const file = await (identity?.lookUp(choose) ?? choose());
  if (file === undefined) return undefined;
  return withLocated(file, async (handle, source) => ({ header: await headerOf(handle, source, identity), file }));
}

// The vision tower of a text encoder: the one mmproj file of its folder, or the one that is called as it is.
async function visionFile(path: string): Promise<string | undefined> {
  const folder = dirname(path);
  const isTower = (name: string) => VISION_NAME.test(name) && name !== basename(path);
  const names = (await readdir(folder).catch(() => [])).filter(isTower).sort();
  const stem = (name: string) => name.toLowerCase().replace(VARIANT, "");
  const named = names.filter((name) => stem(name) === stem(basename(path)));
  const fitting = named.length > 0 ? named : names;
  // Publishers lay one tower there in several types: the published weights are bfloat16.
  const rank = (each: string) => PRECISE.findIndex((type) => type.test(each)) >>> 0;
  fitting.sort((a, b) => rank(a) - rank(b));
  if (new Set(fitting.map(stem)).size > 1)
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot choose the vision tower of ${path} among ${fitting.slice(0, 4).join(", ")}`,
      {
        hint: "Keep the one that belongs to it in its folder",
      },
    );
  const [name] = fitting;
  return name && join(folder, name);
}

function textsOf(values: ReadonlyMap<string, GgufValue>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    [...values].map(([key, value]) => [key, Array.isArray(value) ? JSON.stringify(value) : String(value)]),
  );
}
