// Keys with prefixes; other spellings of whole files are in forms.test.ts.
import { describe, expect, test } from "vitest";
import { type ModelPart, publishedNames, stripPrefix } from "../../src/checkpoint/published-names.js";

describe("of a whole model in one file", () => {
  const stored = { dtype: "F32", shape: [], file: "/x", offset: 0, length: 4 } as const;
  const whole = (names: readonly string[], metadata: Record<string, string> = {}) => ({
    file: "x",
    tensors: new Map(names.map((name) => [name, stored])),
    metadata,
  });
  const transformer = Array.from({ length: 6 }, (_, index) => `model.diffusion_model.t${index}`);
  const own = transformer.map((name) => name.replace("model.diffusion_model.", ""));
  const keysOf = (names: readonly string[], part: ModelPart) => [...publishedNames(whole(names), part).tensors.keys()];

  test.each([
    ["vae.", "text_encoders.qwen25_7b.transformer."],
    ["first_stage_model.", "cond_stage_model.qwen25_7b.transformer."],
    ["vae.", "text_encoders.qwen25_7b."],
    ["vae.", "text_encoders."],
  ])("each part comes by itself, from %s and %s", (vae, text) => {
    const layer = "model.layers.0.input_layernorm.weight";
    const names = [...transformer, `${vae}conv1.weight`, `${text}${layer}`, `${text}visual.x`];
    expect(keysOf(names, "vae")).toEqual(["conv1.weight"]);
    expect(keysOf(names, "text_encoder")).toEqual([layer, "visual.x"]);
    expect(keysOf(names, "transformer")).toEqual(own);
  });

  test("what belongs to no part stays with the transformer, and what stands beside the text encoder with it", () => {
    const text = "text_encoders.q.transformer.model.layers.0.input_layernorm.weight";
    const names = [...transformer, "stray", "vae.a", text, "text_encoders.q.logit_scale"];
    expect(keysOf(names, "transformer")).toEqual(["stray", ...own]);
    expect(keysOf(names, "text_encoder")).toEqual([
      "model.layers.0.input_layernorm.weight",
      "text_encoders.q.logit_scale",
    ]);
    expect(keysOf(names, "vae")).toEqual(["a"]);
  });

  test("a configuration is the transformer's, unless it has one for each part", () => {
    const names = [...transformer, "vae.a"];
    const configs = (config: object) =>
      (["transformer", "vae"] as const).map(
        (part) => publishedNames(whole(names, { config: JSON.stringify(config) }), part).metadata["config"],
      );
    expect(configs({ patch_size: 2 })).toEqual(['{"patch_size":2}', undefined]);
    expect(configs({ transformer: { a: 1 }, vae: { b: 2 } })).toEqual(['{"a":1}', '{"b":2}']);
  });

  test("a part that it does not hold is not taken from another one", () => {
    expect(keysOf([...transformer, "vae.a"], "text_encoder")).toEqual([...transformer, "vae.a"]);
  });
});

describe("a part in a file of its own, under the names of other tools", () => {
  const stored = { dtype: "F32", shape: [], file: "/x", offset: 0, length: 4 } as const;
  const keysOf = (names: readonly string[], part: ModelPart) => [
    ...publishedNames(
      { file: "x", tensors: new Map(names.map((name) => [name, stored])), metadata: {} },
      part,
    ).tensors.keys(),
  ];
  const encoder = [
    ...["model.embed_tokens.weight", "model.layers.0.input_layernorm.weight", "model.norm.weight"],
    ...["lm_head.weight", "visual.blocks.0.norm1.weight"],
  ];
  const nested = (language: string, head: string, visual: string) =>
    encoder.map((name) =>
      name
        .replace(/^model\./, language)
        .replace(/^lm_head\./, head)
        .replace(/^visual\./, visual),
    );

  test.each([
    ["transformers of newer releases", nested("model.language_model.", "lm_head.", "model.visual.")],
    ["ComfyUI's file of Qwen3-VL", nested("model.", "lm_head.", "model.visual.")],
    ["a model inside another", nested("language_model.model.", "language_model.lm_head.", "visual.")],
    ["a thinker", nested("thinker.model.", "thinker.lm_head.", "thinker.visual.")],
    ["a pipeline", nested("text_encoder.model.language_model.", "text_encoder.lm_head.", "text_encoder.model.visual.")],
    ["a model without its head", nested("", "lm_head.", "visual.")],
  ])("the text encoder, as %s has it", (_, names) => {
    expect(keysOf(names, "text_encoder")).toEqual(encoder);
  });

  test.each(["diffusion_model.", "transformer.", "pipe.dit.", "module."])("the transformer behind %s", (prefix) => {
    const names = Array.from({ length: 6 }, (_, index) => `transformer_blocks.${index}.a`);
    expect(
      keysOf(
        names.map((name) => prefix + name),
        "transformer",
      ),
    ).toEqual(names);
  });

  test.each(["vae.", "first_stage_model."])("the VAE behind %s", (prefix) => {
    expect(keysOf([`${prefix}conv1.weight`, `${prefix}conv2.weight`], "vae")).toEqual(["conv1.weight", "conv2.weight"]);
  });
});

describe("stripPrefix", () => {
  const stored = { dtype: "F32", shape: [], file: "/x", offset: 0, length: 4 } as const;
  const named = (...names: string[]) => ({
    file: "x",
    tensors: new Map(names.map((name) => [name, stored])),
    metadata: {},
  });
  const six = (prefix: string) => Array.from({ length: 6 }, (_, i) => `${prefix}${i}`);
  const keys = (...names: string[]) => [...stripPrefix(named(...names)).tensors.keys()];

  test("takes off the most frequent prefix and leaves what does not carry it as it is", () => {
    expect(keys(...six("net."), ...six("model.diffusion_model."), "model.diffusion_model.x", "vae.y")).toEqual([
      ...six("net."),
      "vae.y",
      ...six(""),
      "x",
    ]);
  });

  test("does not count a prefix of five keys, and falls back to model.", () => {
    const few = ["net.1", "net.2", "net.3", "net.4", "net.5"];
    expect(keys(...few, "model.a")).toEqual([...few, "a"]);
  });

  test("leaves a file without prefixes as it is", () => {
    const plain = named("img_in.weight", "txt_norm.weight");
    expect(stripPrefix(plain)).toBe(plain);
  });
});
