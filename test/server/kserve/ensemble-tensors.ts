// Edits of the embedded model as the tensors of an exported ensemble, and the pixels that `qedit run` makes of the same.
import { clientInputs, clientNumbers } from "../../../src/edit/remote/client-inputs.js";
import { readPictures } from "../../../src/stages/pictures.js";
import type { Tensor, Tensors } from "../../../src/std/tensor.js";
import { loadTokenizer } from "../../../src/text/tokenizer.js";
import { EMBEDDED, openFiles } from "../../export/exported.js";
import type { TemporaryFolder } from "../../support/folder.js";
import { ran } from "../ran.js";
import type { TestTensor } from "./http-client.js";

/** Sizes of qedit's own. */
const ANY_SIZES = { match: undefined, size: undefined };

/** An edit. */
export interface WholeEdit {
  readonly paths: readonly string[];
  readonly prompt?: string;
  /** undefined: without guidance. */
  readonly negative?: string;
  readonly cfg?: number;
  readonly megapixels?: number;
  readonly steps?: number;
  readonly seed?: number;
}

const FILES = openFiles(EMBEDDED);
const TOKENIZER = loadTokenizer();
const DATATYPES = { uint8: "UINT8", int64: "INT64", float32: "FP32", int32: "INT32" };

function completed({
  prompt = "make it winter",
  cfg = 2.5,
  megapixels = 0.02,
  steps = 2,
  seed = 7,
  ...edit
}: WholeEdit) {
  return { ...edit, prompt, cfg: edit.negative === undefined ? 1 : cfg, megapixels, steps, seed };
}

/** The tensors of an edit, as a client makes them. */
export async function ensembleTensors(edit: WholeEdit): Promise<Tensors> {
  const { paths, prompt, negative: negativePrompt, megapixels, steps, cfg, seed } = completed(edit);
  const sampling = {
    ...{ sampler: "euler", scheduler: "simple", denoise: 1, shift: 3, cfgNorm: 1, cfg, steps },
    seed: BigInt(seed),
  };
  const pictures = await readPictures(paths);
  return clientInputs(
    { pictures, prompt, negativePrompt, sizes: { ...ANY_SIZES, megapixels }, sampling },
    clientNumbers(await FILES),
    await TOKENIZER,
  );
}

/** Tensors as they are sent. */
export function sentTensors(tensors: Tensors): readonly TestTensor[] {
  return Object.entries(tensors).map(([name, tensor]) => sentTensor(name, tensor));
}

/** A tensor as it is sent. */
function sentTensor(name: string, { type, shape, data }: Tensor): TestTensor {
  return { name, datatype: DATATYPES[type], shape, bytes: Buffer.from(data.buffer, data.byteOffset, data.byteLength) };
}

/** The model of an edit. */
export function ensembleOf({ paths, negative }: WholeEdit): string {
  return `qedit_${paths.length}${negative === undefined ? "" : "_cfg"}`;
}

/** What `qedit run` makes, as the output of an ensemble. */
export async function ranPixels(
  edit: WholeEdit,
  folder: TemporaryFolder,
  flags: Readonly<Record<string, string>> = {},
): Promise<TestTensor> {
  const { paths, prompt, negative, cfg, megapixels, steps, seed } = completed(edit);
  const numbers = { megapixels, steps, seed, cfg, sampler: "euler", scheduler: "simple", shift: 3 };
  const fields = Object.entries(numbers).map(([name, value]) => [name, String(value)] as const);
  const guided = negative === undefined ? {} : { negative_prompt: negative };
  const bytes = await ran(paths, { prompt, ...Object.fromEntries(fields), ...guided, ...flags }, folder);
  const [picture] = await readPictures([{ name: "run.png", bytes }]);
  const { width, height, data } = picture!.image;
  return { name: "image", datatype: "UINT8", shape: [height, width, 3], bytes: Buffer.from(data) };
}
