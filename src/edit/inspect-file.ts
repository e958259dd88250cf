// Identifies a file: a picture with or without a recipe, an artifact, or a checkpoint. Reads no weights or pixels.
import { open, stat } from "node:fs/promises";
import type { Recipe } from "../artifacts/recipe.js";
import { examine } from "../catalog/local/examine.js";
import type { Identity } from "../catalog/local/identify.js";
import { type Checkpoint, elementsOf } from "../checkpoint/checkpoint.js";
import { identified, openCheckpoint } from "../checkpoint/open.js";
import { decodeSafetensors } from "../checkpoint/safetensors/safetensors.js";
import { type PictureText, pictureTexts } from "../image/io/description.js";
import { formatByStart, START_BYTES } from "../image/io/picture-formats.js";
import { readSize } from "../image/io/read.js";
import { QeditError } from "../std/errors.js";
import { ioFailure } from "../std/files.js";
import { artifactRecipe, pictureBytes, recipeAmong } from "./recipe/recipe-of-file.js";
import type { NamedBytes } from "./request/edit-request.js";

/** A picture file. */
export interface InspectedPicture {
  readonly kind: "picture";
  readonly file: string;
  readonly bytes: number;
  readonly format: string;
  readonly width: number;
  readonly height: number;
  readonly recipe: Recipe | undefined;
  /** Keywords of the texts in the file, and the tools that write such texts. */
  readonly texts: readonly string[];
  readonly tools: readonly string[];
}

/** A tensor file between stages. */
export interface InspectedArtifact {
  readonly kind: "artifact";
  readonly file: string;
  readonly bytes: number;
  readonly artifact: string;
  readonly version: string;
  readonly tensors: Readonly<Record<string, string>>;
  readonly recipe: Recipe | undefined;
}

/** A model file or LoRA. */
export interface InspectedCheckpoint {
  readonly kind: "checkpoint";
  readonly file: string;
  readonly bytes: number;
  /** As in recipes. */
  readonly identity: string;
  readonly what: Identity;
  readonly tensors: number;
  /** Tensors and elements by stored type. */
  readonly types: Readonly<Record<string, { readonly tensors: number; readonly parameters: number }>>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** The result of inspecting a file. */
export type Inspected = InspectedPicture | InspectedArtifact | InspectedCheckpoint;

/** Files that are opened as checkpoints: by name, and by magic bytes, including formats that openCheckpoint refuses with a reason. */
const NAMES = /\.(safetensors|sft|json|gguf)$/i;
const TENSORS = /^([^]{8}\{|PK\x03\x04|GGUF|\x80[\x02-\x05]|version https:)/;

/** Inspects a file or a folder of weights. Throws QEDIT_E_IMAGE, QEDIT_E_CHECKPOINT, QEDIT_E_MODEL_MISSING, QEDIT_E_IO. */
export async function inspectFile(file: string): Promise<Inspected> {
  const start = await firstBytes(file);
  const format = formatByStart(Buffer.from(start, "latin1"));
  if (format !== undefined) return inspectPicture(await pictureBytes(file), { file, format });
  if (start !== "" && !NAMES.test(file) && !TENSORS.test(start)) {
    throw new QeditError(
      "QEDIT_E_IMAGE",
      `Cannot tell what ${file} is: neither a picture nor a .safetensors or GGUF file`,
      {
        hint: "It shows PNG, JPEG, WebP, GIF, TIFF, AVIF, HEIC, JPEG XL and BMP pictures, tensor files and model files",
      },
    );
  }
  return inspectTensors(file);
}

/** Inspects the bytes of a picture or a tensor file, such as those of standard input. Throws QEDIT_E_IMAGE, QEDIT_E_CHECKPOINT. */
export async function inspectBytes({ name: file, bytes: given }: NamedBytes): Promise<Inspected> {
  const bytes = Buffer.from(given.buffer, given.byteOffset, given.length);
  const start = bytes.subarray(0, START_BYTES);
  const format = formatByStart(start);
  if (format !== undefined) return inspectPicture(bytes, { file, format });
  const checkpoint = TENSORS.test(start.toString("latin1")) ? decodeSafetensors(bytes, file) : undefined;
  const artifact = checkpoint && artifactOf(checkpoint, { file, bytes: bytes.length });
  if (artifact !== undefined) return artifact;
  throw new QeditError("QEDIT_E_IMAGE", `Cannot inspect ${file}: neither a picture nor a tensor file of qedit`, {
    hint: "Name a model file by its path: qedit inspect FILE",
  });
}

async function inspectPicture(
  bytes: Buffer,
  { file, format }: { readonly file: string; readonly format: string },
): Promise<InspectedPicture> {
  const { width, height } = await readSize(bytes, file);
  const texts = pictureTexts(bytes);
  return {
    kind: "picture",
    file,
    bytes: bytes.length,
    format,
    width,
    height,
    recipe: recipeAmong(texts),
    texts: [...new Set(texts.map(({ keyword }) => keyword))],
    tools: toolsOf(texts),
  };
}

/** How to recognise the metadata of other tools. */
const TOOLS: readonly (readonly [tool: string, matches: (text: PictureText) => boolean])[] = [
  [
    "ComfyUI",
    ({ keyword, text }) =>
      ((keyword === "prompt" || keyword === "workflow") && text.startsWith("{")) ||
      /^(prompt|workflow):\s*\{/i.test(text),
  ],
  [
    "Stable Diffusion WebUI",
    ({ keyword, text }) => keyword === "parameters" || (keyword === "UserComment" && /\bSteps: \d+, /.test(text)),
  ],
  ["InvokeAI", ({ keyword }) => keyword === "invokeai_metadata" || keyword === "sd-metadata"],
  ["NovelAI", ({ keyword, text }) => keyword === "Software" && text.startsWith("NovelAI")],
];

function toolsOf(texts: readonly PictureText[]): string[] {
  return TOOLS.filter(([, matches]) => texts.some(matches)).map(([tool]) => tool);
}

async function inspectTensors(file: string): Promise<InspectedArtifact | InspectedCheckpoint> {
  const { checkpoint, identity } = await identified((options) => openCheckpoint(file, options));
  const bytes = [...new Set([...checkpoint.tensors.values()].map((stored) => stored.file))].map(
    async (each) => (await stat(each)).size,
  );
  const facts = { file, bytes: (await Promise.all(bytes)).reduce((sum, size) => sum + size, 0) };
  const artifact = artifactOf(checkpoint, facts);
  if (artifact !== undefined) return artifact;
  return {
    kind: "checkpoint",
    ...facts,
    identity,
    what: await whatIs(checkpoint),
    tensors: checkpoint.tensors.size,
    types: typesOf(checkpoint),
    metadata: checkpoint.metadata,
  };
}

// Undefined: it is not of qedit.
function artifactOf(
  { metadata, tensors: stored }: Checkpoint,
  facts: { readonly file: string; readonly bytes: number },
): InspectedArtifact | undefined {
  const { kind, version, qedit } = metadata;
  if (kind === undefined || version === undefined || qedit === undefined) return undefined;
  const tensors = Object.fromEntries(
    [...stored].map(([name, { dtype, shape }]) => [name, `${dtype} [${shape.join(", ")}]`]),
  );
  return { kind: "artifact", ...facts, artifact: kind, version, tensors, recipe: artifactRecipe(metadata) };
}

async function whatIs(checkpoint: Checkpoint): Promise<Identity> {
  const what = await examine(checkpoint);
  if (what.kind !== "other" || !checkpoint.tensors.has("latent_tensor")) return what;
  return { ...what, network: "a latent, as ComfyUI's SaveLatent writes it", notes: ["`qedit decode` takes it"] };
}

function typesOf({ tensors }: Checkpoint): InspectedCheckpoint["types"] {
  const types: Record<string, { tensors: number; parameters: number }> = {};
  for (const stored of tensors.values()) {
    const type = (types[stored.dtype] ??= { tensors: 0, parameters: 0 });
    type.tensors += 1;
    type.parameters += elementsOf(stored);
  }
  return types;
}

// As latin1, one character per byte. Empty for a folder.
async function firstBytes(file: string): Promise<string> {
  try {
    const found = await stat(file);
    if (found.isDirectory()) return "";
    if (!found.isFile()) throw new QeditError("QEDIT_E_IMAGE", `Cannot inspect ${file}: it is not a regular file`);
    const handle = await open(file);
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(START_BYTES), 0, START_BYTES, 0);
      if (bytesRead > 0) return buffer.toString("latin1", 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw ioFailure("read", file, error);
  }
  throw new QeditError("QEDIT_E_IMAGE", `Cannot inspect ${file}: the file is empty`);
}
