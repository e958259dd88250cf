// The folder that Triton serves: of each model its config, its graph and its weights, and of each ensemble its config.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { FACTS_PARAMETER } from "../../edit/remote/exported-facts.js";
import { encodeModel } from "../../graph/onnx.js";
import { QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { makeFolders } from "../../std/files.js";
import { type Ensemble, ensembleConfig } from "./ensembles.js";
import type { ExportedModel } from "./exported-model.js";
import { memberConfig, type Placement } from "./member-config.js";
import { configText, type ModelConfig } from "./model-config.js";
import type { WarmupRequest } from "./warm-up-requests.js";
import { namesBeside, type PlacedWeights, placeWeights } from "./weight-files.js";

/** The one version of each model. */
export const VERSION = "1";
/** The file of a graph in the folder of a version. */
export const GRAPH_FILE = "model.onnx";
/** The file of a configuration in the folder of a model. */
export const CONFIG_FILE = "config.pbtxt";

/** Bytes of a protobuf message. */
const LARGEST_GRAPH = 2 ** 31 - 1;

/** Git, object stores and some copying tools drop empty folders. */
const KEPT = {
  name: "README",
  text: "An ensemble has no model file, but the server wants this folder.\n",
};

/** What a repository consists of. */
export interface Repository {
  readonly models: readonly ExportedModel[];
  readonly ensembles: readonly Pick<Ensemble, "name" | "inputs" | "outputs" | "steps">[];
  readonly placement: Placement;
  /** Warm-ups by model. */
  readonly warmups: ReadonlyMap<string, WarmupRequest>;
  /** What configurations say their models are, by name. */
  readonly facts: ReadonlyMap<string, string>;
  /** Other files, by name. */
  readonly files: ReadonlyMap<string, string>;
}

/** Writes a repository to an empty folder. Throws QEDIT_E_IO. */
export async function writeRepository(
  folder: string,
  { models, ensembles, placement, warmups, facts, files }: Repository,
  work: { readonly emit: Emit; readonly signal: AbortSignal },
): Promise<PlacedWeights> {
  const weights = new Map<string, string>();
  for (const model of models) {
    work.signal.throwIfAborted();
    work.emit({ kind: "activity", text: `writing ${model.name}` });
    const warmup = warmups.get(model.name);
    await writeConfig(folder, withFacts(memberConfig(model, placement, warmup?.config), facts));
    await writeWarmup(join(folder, model.name), warmup);
    const version = join(folder, model.name, VERSION);
    const names = namesBeside(model.graph);
    await writeFile(join(version, GRAPH_FILE), encoded(model, names), { flush: true });
    for (const [file, name] of names) weights.set(join(version, name), file);
  }
  for (const ensemble of ensembles) {
    await writeConfig(folder, withFacts(ensembleConfig(ensemble), facts));
    await writeFile(join(folder, ensemble.name, VERSION, KEPT.name), KEPT.text);
  }
  for (const [name, text] of files) await writeFile(join(folder, name), text, { flush: true });
  return placeWeights(weights, work);
}

function withFacts(config: ModelConfig, facts: ReadonlyMap<string, string>): ModelConfig {
  const text = facts.get(config.name);
  if (text === undefined) return config;
  return { ...config, parameters: { ...config.parameters, [FACTS_PARAMETER]: { string_value: text } } };
}

async function writeConfig(folder: string, config: ModelConfig): Promise<void> {
  await makeFolders(join(folder, config.name, VERSION));
  await writeFile(join(folder, config.name, CONFIG_FILE), configText(config), { flush: true });
}

async function writeWarmup(folder: string, warmup: WarmupRequest | undefined): Promise<void> {
  if (warmup === undefined || warmup.files.size === 0) return;
  await makeFolders(join(folder, "warmup"));
  for (const [name, bytes] of warmup.files) await writeFile(join(folder, "warmup", name), bytes);
}

function encoded({ name, graph }: ExportedModel, names: ReadonlyMap<string, string>): Uint8Array {
  const bytes = encodeModel(graph, (file) => names.get(file)!);
  if (bytes.length <= LARGEST_GRAPH) return bytes;
  throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot export ${name}: its graph has more than 2 GiB without weights`);
}
