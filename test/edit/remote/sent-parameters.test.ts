// Every parameter of an edit as a server of stages reads it: the value that was sent.
import { expect, test } from "vitest";
import { jsonName, type ParameterTable, readTexts, readValue } from "../../../src/edit/parameters/parameter.js";
import { EDIT_PARAMETERS } from "../../../src/edit/parameters/table.js";
import { sentValues } from "../../../src/edit/remote/stage-tensors.js";

type Sent = Exclude<
  keyof typeof EDIT_PARAMETERS,
  "vae" | "textEncoder" | "transformer" | "lora" | "prompt" | "negativePrompt" | "mask"
>;

/** A value of each, other than its default; a new parameter needs a line here. */
const WRITTEN: Readonly<Record<Sent, string>> = {
  vaeDtype: "float16",
  tile: "128",
  size: "1184x880",
  megapixels: "0.1",
  resolutionSteps: "8",
  match: "comfyui",
  allowEmptyPrompt: "true",
  textDtype: "bfloat16",
  strictLora: "true",
  seed: "18446744073709551615",
  steps: "7",
  cfg: "1.1",
  sampler: "lcm",
  scheduler: "beta",
  shift: "2.7",
  sigmas: "1,0.978453,0.9,0.4",
  denoise: "0.3",
  cfgNorm: "none",
  lcmNoise: "0.7",
  lcmNoiseEnd: "0.2",
  lcmNoiseClip: "3",
  referenceMethod: "index",
  dtype: "bfloat16",
  stepCache: "on",
  keepSize: "true",
  noMetadata: "true",
  keepExif: "true",
  pasteBack: "true",
  cropMask: "true",
  maskMargin: "12",
  feather: "5",
};

test.each(Object.entries(WRITTEN))("%s = %s", (key, written) => {
  const parameter = (EDIT_PARAMETERS as ParameterTable)[key]!;
  const value: unknown = readTexts(key, parameter, [written]);
  const sent = sentValues([key], { [key]: value })[jsonName(key)];
  expect(["string", "number", "boolean"]).toContain(typeof sent);
  expect(readValue(key, parameter, sent)).toEqual(value);
});
