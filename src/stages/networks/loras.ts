// LoRAs as a stage takes them: FILE or FILE:STRENGTH, matched to the transformer's modules.
import { basename } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.js";
import { type LoraMatch, matchLora, matchTable, refuseUnmatched } from "../../checkpoint/lora/lora.js";
import { openLora } from "../../checkpoint/lora/lora-config.js";
import { checkpointIdentity } from "../../checkpoint/safetensors/safetensors.js";
import type { Adapter } from "../../checkpoint/weights.js";
import type { Emit } from "../../std/events.js";
import { float32, type Tensors } from "../../std/tensor.js";

/** A LoRA as the user wrote it. */
export interface NamedLora {
  readonly path: string;
  readonly strength: number;
}

/** Reads FILE or FILE:STRENGTH; a colon that no number follows belongs to the path. */
export function parseLora(written: string): NamedLora {
  const match = /^(.+):([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i.exec(written);
  return match ? { path: match[1]!, strength: Number(match[2]) } : { path: written, strength: 1 };
}

/** A LoRA that rides on a graph. */
export interface RidingLora {
  /** Path of its file. */
  readonly file: string;
  readonly adapter: Adapter;
  readonly strength: number;
  readonly identity: string;
  /** Of the file alone, for records. */
  readonly name: string;
  /** Tells what was matched, and warns of keys that fit nothing. */
  readonly report: (emit: Emit) => void;
}

/** What a graph with LoRAs on it is fed: the strength of each. */
export function strengthsOf(loras: readonly RidingLora[]): Tensors {
  return Object.fromEntries(
    loras.map(({ adapter, strength }) => [adapter.name, float32([1], Float32Array.of(strength))]),
  );
}

/** Matches LoRAs to a transformer. Throws QEDIT_E_LORA when one fits nothing, or, if strict, when any key of it fits nothing. */
export async function matchLoras(
  { lora, strictLora }: { lora: readonly string[]; strictLora: boolean },
  model: Checkpoint,
): Promise<RidingLora[]> {
  const riding: RidingLora[] = [];
  for (const [index, written] of lora.entries()) {
    const { path, strength } = parseLora(written);
    const checkpoint = await openLora(path);
    const match = await matchLora(checkpoint, model);
    if (strictLora) refuseUnmatched(match);
    riding.push({
      file: path,
      adapter: { name: `lora_strength.${index}`, pairs: match.matched },
      strength,
      identity: await checkpointIdentity(checkpoint),
      name: basename(path),
      report: (emit) => reportMatch(match, { strength, emit }),
    });
  }
  return riding;
}

function reportMatch(match: LoraMatch, { strength, emit }: { strength: number; emit: Emit }): void {
  const [matched, ...others] = matchTable(match);
  emit({ kind: "note", text: `LoRA ${match.file}: ${matched}, strength ${strength}` });
  for (const line of others) emit({ kind: "warning", text: `LoRA ${match.file}: ${line}` });
}
