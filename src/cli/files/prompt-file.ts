// --prompt-file and `-p -`: the prompt from a file or a pipe, which may hold anything.
import { open } from "node:fs/promises";
import { QeditError } from "../../std/errors.js";
import { ioFailure } from "../../std/files.js";
import { STREAM } from "../io.js";
import type { GivenSetting } from "../settings/settings.js";

/** Longest prompt in bytes: some 16,000 tokens, far more than the model was trained with, and what attention can hold. */
const MOST_BYTES = 64 * 1024;

/**
 * Given settings with a prompt file replaced by the prompt in it; the file may be `-`, stdin, as the prompt may. Throws QEDIT_E_USAGE if prompt and prompt
 * file are given at one place or the file holds no text, QEDIT_E_IO if it cannot be read.
 */
export async function withPromptOfFile(
  given: ReadonlyMap<string, GivenSetting>,
): Promise<ReadonlyMap<string, GivenSetting>> {
  const { prompt, promptFile } = { prompt: given.get("prompt"), promptFile: given.get("promptFile") };
  if (promptFile === undefined) return given;
  if (prompt !== undefined && prompt.strength === promptFile.strength) {
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${prompt.name} and ${promptFile.name} at once: each is the prompt`,
      {
        hint: "Leave one of them out",
        parameter: "prompt_file",
      },
    );
  }
  const rest = new Map([...given].filter(([name]) => name !== "promptFile"));
  if (prompt !== undefined && prompt.strength > promptFile.strength) return rest;
  const path = promptFile.value as string;
  return rest.set("prompt", { ...promptFile, value: path === STREAM ? STREAM : await promptIn(path) });
}

/** A prompt from the chunks of a file or a pipe: UTF-8, with or without a byte order mark, without its last line break. Throws QEDIT_E_USAGE. */
export async function promptOf(chunks: AsyncIterable<Uint8Array | string>, name: string): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    parts.push(Buffer.from(chunk as Uint8Array));
    size += parts.at(-1)!.length;
    if (size > MOST_BYTES)
      throw refused(name, `it has more than ${MOST_BYTES / 1024} kB`, "Shorten it: prompts are a few sentences");
  }
  const text = decoded(Buffer.concat(parts));
  if (text === undefined) throw refused(name, "it is not UTF-8 text", "Save it as UTF-8");
  return text.replace(/\r?\n$/, "");
}

async function promptIn(path: string): Promise<string> {
  let text: string;
  try {
    const handle = await open(path);
    try {
      text = await promptOf(handle.createReadStream({ autoClose: false }), path);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioFailure("read", path, error);
  }
  if (text === STREAM)
    throw refused(path, `it is "${STREAM}", which stands for stdin`, "Write what to do with the pictures");
  return text;
}

// undefined for other encodings; UTF-16 without a mark has zeros.
function decoded(bytes: Buffer): string | undefined {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.includes("\0") ? undefined : text;
  } catch {
    return undefined;
  }
}

function refused(name: string, reason: string, hint: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot read the prompt in ${name}: ${reason}`, {
    hint,
    parameter: "prompt_file",
  });
}
