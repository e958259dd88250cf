// Which weights a server computed with, held against those that this machine knows: the identity of a file that is open here, or what the
// catalogue says of the model's file.
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import { type PublishedFile, publishedModel } from "../../catalog/published/models.js";
import { parseLora } from "../../stages/networks/loras.js";
import type { StageName } from "../../stages/stage.js";
import { param, QeditError } from "../../std/errors.js";
import { isObject } from "../../std/guards.js";
import type { RemoteAnswer } from "./remote-model.js";
import type { RemoteSettings } from "./stage-tensors.js";

/** What is known of a file's weights. */
export interface KnownWeights {
  /** The identity of its weights. */
  readonly identity: string | undefined;
  /** SHA-256 of the whole file. */
  readonly sha256: string | undefined;
  /** For messages. */
  readonly name: string;
}

/** Known weights by the role of records: `transformer`, `lora.0`. */
export type WeightsByRole = Readonly<Record<string, KnownWeights>>;

/** Model files that are open here. */
export interface OpenWeights {
  readonly vae?: OpenFile | undefined;
  readonly textEncoder?: OpenFile | undefined;
  readonly transformer?: OpenFile | undefined;
}

interface OpenFile {
  readonly identity: string;
  readonly name: string;
}

/** The parameter of an answer with the SHA-256 of the files it was computed with, by role, as JSON. */
export const HASHES_PARAMETER = "weights_sha256";

const ROLES = {
  "encode-image": ["vae"],
  "encode-prompt": ["textEncoder"],
  sample: ["transformer"],
  decode: ["vae"],
} as const satisfies Readonly<Record<StageName, readonly (keyof OpenWeights)[]>>;

/** A role in records. */
const RECORDED = { vae: "vae", textEncoder: "text_encoder", transformer: "transformer" } as const;

/** The weights that stages should compute with: those of their model, and its LoRAs. Throws QEDIT_E_USAGE for an unknown model. */
export async function expectedWeights(
  stages: readonly StageName[],
  { model, lora = [] }: RemoteSettings,
  open: OpenWeights,
): Promise<WeightsByRole> {
  const published = await publishedModel(model);
  const roles = new Set(stages.flatMap((stage) => ROLES[stage]));
  const parts = [...roles].map((role) => {
    const own = open[role];
    const known = own ? { ...own, sha256: undefined } : knownOf(published.files[role]);
    return [RECORDED[role], known] as const;
  });
  const loras = stages.includes("sample") ? lora : [];
  const added = loras.map((written, index) => {
    const { path } = parseLora(written);
    const file = published.loras[path] ?? Object.values(published.loras).find((each) => each.file === path);
    const known = file ? knownOf(file) : { name: path, identity: undefined, sha256: undefined };
    return [`lora.${index}`, known] as const;
  });
  return Object.fromEntries([...parts, ...added]);
}

/**
 * The weights of stages that run elsewhere, as a part of a result's name: what their servers should have. Servers always tell the
 * identity of a file: where it is not known here, they may have computed with another one, and the result is that of its job alone.
 */
export async function weightsElsewhere(
  stages: readonly StageName[],
  { called, models, job }: { readonly called: RemoteSettings; readonly models: OpenWeights; readonly job: string },
): Promise<object> {
  const expected = await expectedWeights(stages, called, models);
  const isKnown = Object.values(expected).every(({ identity }) => identity !== undefined);
  return { ...called, elsewhere: expected, ...(!isKnown && { job }) };
}

/**
 * The roles of which it is not known whether the server computed with the expected weights, as it does not say or nothing is known here. Throws
 * QEDIT_E_CHECKPOINT for others.
 */
export function unverifiedWeights(
  info: Pick<ArtifactInfo, "weights" | "names">,
  expected: WeightsByRole,
  { from, parameters }: Pick<RemoteAnswer, "from" | "parameters">,
): readonly string[] {
  return unknownWeights({ ...info, hashes: hashesOf(parameters[HASHES_PARAMETER]) }, expected, `${from} computed with`);
}

/** What a server says of its weights: identities, SHA-256 of files, and names of files, by role. */
export interface ToldWeights extends Pick<ArtifactInfo, "weights" | "names"> {
  readonly hashes: Readonly<Record<string, string>>;
}

/** The same by what a server says before it computes; `who` is the server, and its verb. */
export function unknownWeights(
  { weights, names = {}, hashes }: ToldWeights,
  expected: WeightsByRole,
  who: string,
): readonly string[] {
  return Object.entries(expected).flatMap(([role, { identity, sha256, name }]) => {
    const pairs = [
      [identity, weights[role]],
      [sha256, hashes[role]],
    ] as const;
    const known = pairs.filter(([wanted, found]) => wanted !== undefined && found !== undefined);
    const wrong = known.find(([wanted, found]) => wanted !== found);
    if (wrong !== undefined) {
      const [wanted, found] = wrong as [string, string];
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `The server at ${who} other weights: wanted ${name} (${wanted.slice(0, 12)}…) as ${role}, found ${names[role] ?? "a file"} (${found.slice(0, 12)}…)`,
        {
          hint: `Give it the same files, name the model that it has with ${param("model")}, or leave out ${param("remote")}`,
        },
      );
    }
    return known.length === 0 ? [role] : [];
  });
}

function knownOf({ file, sha256, identity }: PublishedFile): KnownWeights {
  return { name: file, sha256, identity };
}

function hashesOf(text: unknown): Readonly<Record<string, string>> {
  if (typeof text !== "string") return {};
  try {
    const value: unknown = JSON.parse(text);
    const entries = isObject(value) ? Object.entries(value) : [];
    return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === "string"));
  } catch {
    return {};
  }
}
