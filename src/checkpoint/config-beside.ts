// The configuration that tools write beside weights: config.json, and adapter_config.json of PEFT.
import { dirname } from "node:path";
import { type ErrorCode, QeditError } from "../std/errors.js";
import { readTextIfThere } from "../std/files.js";
import type { ReadOptions } from "./safetensors/safetensors.js";
import { metadataObject } from "./safetensors/safetensors-header.js";

/** Bytes of a configuration; those of the published models have some thousand. */
const LARGEST_CONFIG = 16 * 1024 ** 2;

const LFS_POINTER = /^version https:\/\/git-lfs\.github\.com\/spec\//;

/** The text of a configuration, which is part of what identifies the weights; undefined where there is none. Throws QEDIT_E_IO for what is no file of text. */
export async function readConfig(path: string, { identity }: ReadOptions): Promise<string | undefined> {
  await identity?.stamp(path);
  const text = await readTextIfThere(path, LARGEST_CONFIG);
  identity?.takeText(text);
  return text;
}

/** The text, if it is a JSON object. Throws an error of the code for anything else, which says what it is. */
export function objectText(
  path: string,
  text: string,
  { code, wanted, hint }: { readonly code: ErrorCode; readonly wanted: string; readonly hint: string },
): string {
  if (metadataObject(text) !== undefined) return text;
  const isPointer = LFS_POINTER.test(text);
  const other = text.trim() === "" ? "an empty file" : "something else";
  const found = isPointer ? "a pointer of Git LFS" : other;
  throw new QeditError(code, `Cannot read ${path}: wanted ${wanted} as a JSON object, found ${found}`, {
    hint: isPointer ? `Fetch the file itself: git lfs pull, in ${dirname(path)}` : hint,
  });
}
