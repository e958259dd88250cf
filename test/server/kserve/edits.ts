// An edit as calls of the models: the four stages, each with the outputs of those before it.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { firstString, strings, type TestCall, type TestTensor } from "./http-client.js";

/** The models of qedit's own form. */
export const STAGES_AND_EDIT = ["encode_image", "encode_prompt", "sample", "decode", "qedit"];
/** Those with the tensors of an exported folder. */
export const ENSEMBLES = ["qedit_1", "qedit_2", "qedit_3", "qedit_1_cfg", "qedit_2_cfg", "qedit_3_cfg"];

/** Calls a model by one of the protocols. */
export type Infer = (model: string, call: TestCall) => Promise<readonly TestTensor[]>;

/** Pictures as the models take them. */
export function imagesOf(paths: readonly string[]): readonly TestTensor[] {
  return [
    strings("IMAGE", ...paths.map((path) => readFileSync(path))),
    strings("IMAGE_NAMES", ...paths.map((path) => basename(path))),
  ];
}

/** Parameters by the stage that reads them. */
export interface ChainParameters {
  readonly encode_image?: TestCall["parameters"];
  readonly encode_prompt?: TestCall["parameters"];
  readonly sample?: TestCall["parameters"];
  readonly decode?: TestCall["parameters"];
}

/** The picture that the four stages make. */
export async function chained(
  infer: Infer,
  pictures: readonly string[],
  { encode_image = {}, encode_prompt = {}, sample = {}, decode = {} }: ChainParameters,
): Promise<Buffer> {
  const image = imagesOf(pictures);
  const latents = await infer("encode_image", { inputs: image, parameters: encode_image });
  const cond = await infer("encode_prompt", { inputs: image, parameters: encode_prompt });
  const samples = await infer("sample", { inputs: [...latents, ...cond], parameters: sample });
  const picture = await infer("decode", { inputs: samples, parameters: decode });
  return firstString(picture.find(({ name }) => name === "IMAGE")!);
}
