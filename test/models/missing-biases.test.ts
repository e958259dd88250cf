// Model files that lack a bias: refused by its name, since a linear is computed without one too.
import { describe, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openPart } from "../../src/checkpoint/open.js";
import type { ModelPart } from "../../src/checkpoint/published-names.js";
import { reviewPart } from "../../src/models/review-part.js";
import { fixture } from "../support/golden.js";

/** Files, and a bias that none of their blocks can do without. */
const FILES: readonly [file: string, part: ModelPart, place: RegExp][] = [
  ["tiny/vae.safetensors", "vae", /\.residual\.2\.bias$/],
  ["tiny-2/vae.safetensors", "vae", /\.residual\.2\.bias$/],
  ["tiny/text-encoder-fp32.safetensors", "text_encoder", /\.k_proj\.bias$/],
  ["tiny/text-encoder-fp8.safetensors", "text_encoder", /^visual\..*\.bias$/],
  ["tiny-2/text-encoder.safetensors", "text_encoder", /\.linear_fc1\.bias$/],
  ["tiny/transformer-fp32.safetensors", "transformer", /_mod\.1\.bias$/],
  ["tiny/transformer-scaled-fp8.safetensors", "transformer", /\.bias$/],
];

/** Of the last block, and of layers that join frames, which a picture has one of. */
const IDLE = /^transformer_blocks\.1\.(attn\.(add_q_proj|to_add_out)|txt_mlp)\.|\.time_conv\./;

function without({ tensors, ...checkpoint }: Checkpoint, isGone: (name: string) => boolean): Checkpoint {
  return { ...checkpoint, tensors: new Map([...tensors].filter(([name]) => !isGone(name))) };
}

describe.each(FILES)("of %s, the %s", (file, part, place) => {
  test("any bias that is missing is named, but those that nothing reads", async () => {
    const checkpoint = await openPart(fixture(file), part);
    const biases = [...checkpoint.tensors.keys()].filter((name) => name.endsWith(".bias") && !IDLE.test(name));
    expect(biases.length).toBeGreaterThanOrEqual(18);
    for (const bias of biases) {
      expect(
        () =>
          reviewPart(
            without(checkpoint, (name) => name === bias),
            part,
          ),
        bias,
      ).toThrow(
        expect.objectContaining({
          code: "QEDIT_E_CHECKPOINT",
          // By the first bias of queries the family of a text encoder is known.
          message: expect.stringMatching(bias.endsWith("layers.0.self_attn.q_proj.bias") ? "q_proj.bias" : `"${bias}"`),
        }),
      );
    }
  });

  test("those of every block are missed too", async () => {
    const checkpoint = await openPart(fixture(file), part);
    expect(() =>
      reviewPart(
        without(checkpoint, (name) => place.test(name)),
        part,
      ),
    ).toThrow(expect.objectContaining({ code: "QEDIT_E_CHECKPOINT", message: expect.stringMatching(/"\S+\.bias"/) }));
  });
});

test("a file says whether other blocks have the bias that one lacks", async () => {
  const checkpoint = await openPart(fixture("tiny/transformer-fp32.safetensors"), "transformer");
  const refusalWithout = (isGone: (name: string) => boolean) => {
    expect(() => reviewPart(without(checkpoint, isGone), "transformer")).toThrow();
    try {
      reviewPart(without(checkpoint, isGone), "transformer");
      return "";
    } catch (error) {
      return (error as Error).message.replace(checkpoint.file, "FILE");
    }
  };
  expect(refusalWithout((name) => name === "transformer_blocks.1.attn.to_q.bias")).toBe(
    'Cannot use FILE as the transformer: it has no "transformer_blocks.1.attn.to_q.bias", which other blocks have',
  );
  expect(refusalWithout((name) => name === "proj_out.bias")).toBe(
    'Cannot use FILE as the transformer: it has no "proj_out.bias", which its network has',
  );
});

test("what nothing reads of the last block may be left out", async () => {
  const checkpoint = await openPart(fixture("tiny/transformer-fp32.safetensors"), "transformer");
  const gone = /^transformer_blocks\.1\.(attn\.(add_q_proj|to_add_out)|txt_mlp\..*)\.bias$/;
  expect(
    reviewPart(
      without(checkpoint, (name) => gone.test(name)),
      "transformer",
    ).unread,
  ).toEqual([]);
});

test("a bias that one block of Qwen-Image-2.1 has is missed in the others", async () => {
  const checkpoint = await openPart(fixture("tiny-2/transformer.safetensors"), "transformer");
  const [rows] = checkpoint.tensors.get("transformer_blocks.0.attn.to_q.weight")!.shape as [number];
  const [norm] = [...checkpoint.tensors].find(([name]) => name.endsWith("norm_q.weight"))!;
  const bias = { ...checkpoint.tensors.get(norm)!, shape: [rows] };
  const tensors = new Map([...checkpoint.tensors, ["transformer_blocks.0.attn.to_q.bias", bias] as const]);
  expect(() => reviewPart({ ...checkpoint, tensors }, "transformer")).toThrow(
    'it has no "transformer_blocks.1.attn.to_q.bias", "transformer_blocks.2.attn.to_q.bias", which other blocks have',
  );
});
