// LoRAs for a stage: files matched to the transformer's modules, each with a strength.
import { basename } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import type { ReadFiles } from "../../checkpoint/file-identity.js";
import { type LoraMatch, matchLora, matchTable } from "../../checkpoint/lora/lora.js";
import { openLora } from "../../checkpoint/lora/lora-config.js";
import { identified } from "../../checkpoint/open.js";
import { readTensor } from "../../checkpoint/read-tensor.js";
import type { Adapter } from "../../checkpoint/weights.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { float32, type Tensors } from "../../std/tensor.js";

/** Strengths in use are -2 to 2. */
const STRONG = 4;

/** A LoRA file and its strength. */
export interface NamedLora {
  readonly path: string;
  readonly strength: number;
}

/**
 * Parses FILE or FILE:STRENGTH. A colon without a number after it belongs to the path; throws QEDIT_E_USAGE where it follows .safetensors, and for a
 * number that float32 does not hold.
 */
export function parseLora(written: string): NamedLora {
  // A name may have line breaks, which a dot leaves out.
  const match = /^([^]+):([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i.exec(written);
  const strength = Number(match?.[2] ?? 1);
  const other = match ?? /^([^]+\.safetensors):([^/\\]*)$/i.exec(written) ?? [];
  const [, file, wrong] = match && Number.isFinite(Math.fround(strength)) ? [] : other;
  if (wrong !== undefined)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use "${wrong}" as the strength of a LoRA: a number is wanted`, {
      hint: `Write, for example, ${param("lora", `${file}:0.8`)}`,
      parameter: "lora",
    });
  return { path: match?.[1] ?? written, strength };
}

/** A LoRA matched to a transformer. */
export interface MatchedLora extends ReadFiles {
  /** Path of its file. */
  readonly file: string;
  /** File name without its folder, for records. */
  readonly name: string;
  /** The identity of its file. */
  readonly identity: string;
  readonly match: LoraMatch;
}

/** A LoRA that is active in a graph. */
export interface ActiveLora extends MatchedLora {
  readonly adapter: Adapter;
  readonly strength: number;
}

/** The feeds of a graph with active LoRAs: the strength of each, [1]. */
export function strengthsOf(loras: readonly ActiveLora[]): Tensors {
  return Object.fromEntries(
    loras.map(({ adapter, strength }) => [adapter.name, float32([1], Float32Array.of(strength))]),
  );
}

/** Opens a LoRA and matches it to a transformer. Throws QEDIT_E_LORA as matchLora does, and for an alpha of 0. */
export async function openMatchedLora(path: string, transformer: Checkpoint): Promise<MatchedLora> {
  const { checkpoint, ...read } = await identified((options) => openLora(path, options));
  const match = await matchLora(checkpoint, transformer);
  const idle = [...match.matched].find(([, { alpha }]) => alpha === 0);
  if (idle !== undefined) {
    throw new QeditError(
      "QEDIT_E_LORA",
      `Cannot use ${path}: the alpha of ${idle[0]} is 0, by which nothing would be added`,
      {
        hint: `Take it from its publisher again, or leave it out: ${param("lora")}`,
      },
    );
  }
  return { file: path, name: basename(path), ...read, match };
}

/** Activates a LoRA as number `index` of a graph, from 0, at a strength. */
export function activeLora(lora: MatchedLora, { index, strength }: { index: number; strength: number }): ActiveLora {
  return { ...lora, adapter: { name: `lora_strength.${index}`, modules: lora.match.matched }, strength };
}

/**
 * Reads the matrices of active LoRAs, after their transformer gave NaN or infinity. Throws QEDIT_E_LORA for one that holds NaN or infinity, by its
 * name, and for the strengths where all are finite: they are what a run adds to the model.
 */
export async function refuseBrokenLoras(loras: readonly ActiveLora[], cause: QeditError): Promise<void> {
  for (const { match } of loras) {
    for (const [module, { parts }] of match.matched) {
      for (const [part, stored] of Object.entries(parts)) {
        const wrong = (await readTensor(stored)).find((value) => !Number.isFinite(value));
        if (wrong === undefined) continue;
        throw new QeditError("QEDIT_E_LORA", `Cannot use ${match.file}: "${part}" of ${module} holds ${wrong}`, {
          hint: `Leave it out, or take it from its publisher again: ${param("lora")}`,
          cause,
        });
      }
    }
  }
  const strong = loras.filter(({ strength }) => Math.abs(strength) > STRONG);
  if (strong.length === 0) return;
  const named = strong.map(({ match, strength }) => `${match.file}:${strength}`).join(", ");
  throw new QeditError(cause.code, cause.marked.message, {
    hint: `A LoRA of a large strength does this: give ${named} a smaller one`,
    cause,
  });
}

/** Emits how many keys of a LoRA matched, and a warning for those that did not. */
export function reportLora({ match, strength }: ActiveLora, emit: Emit): void {
  const [matched, ...others] = matchTable(match);
  emit({ kind: "note", text: `LoRA ${match.file}: ${matched}, strength ${strength}` });
  for (const line of others) emit({ kind: "warning", text: `LoRA ${match.file}: ${line}` });
}
