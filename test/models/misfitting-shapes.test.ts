// Model files whose tensors do not fit each other: refused by the name of a tensor, before anything is opened, whichever tensor it is.
import { describe, expect, test } from "vitest";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openPart } from "../../src/checkpoint/open.js";
import type { ModelPart } from "../../src/checkpoint/published-names.js";
import { reviewPart } from "../../src/models/review-part.js";
import { fixture } from "../support/golden.js";

const PARTS: readonly [ModelPart, string][] = [
  ["vae", "tiny/vae.safetensors"],
  ["text_encoder", "tiny/text-encoder-fp32.safetensors"],
  ["transformer", "tiny/transformer-fp32.safetensors"],
];
function reshaped(checkpoint: Checkpoint, name: string, shape: readonly number[]): Checkpoint {
  const stored = checkpoint.tensors.get(name)!;
  return { ...checkpoint, tensors: new Map([...checkpoint.tensors, [name, { ...stored, shape }]]) };
}

/** The last of the tensors in each place of a block that no network can do without. */
function needed(checkpoint: Checkpoint, part: ModelPart): readonly string[] {
  const places = new Map([...checkpoint.tensors.keys()].map((name) => [name.replace(/\.\d+\./g, ".*."), name]));
  return [...places.values()].filter((name) => {
    // Looked up by the ids of tokens, outside the graphs; another length is another vocabulary.
    if (name === "model.embed_tokens.weight") return false;
    const others = [...checkpoint.tensors].filter(([each]) => each !== name);
    return reviewed({ ...checkpoint, tensors: new Map(others) }, part) instanceof Error;
  });
}

function reviewed(checkpoint: Checkpoint, part: ModelPart): unknown {
  try {
    return reviewPart(checkpoint, part);
  } catch (error) {
    return error;
  }
}

describe.each(PARTS)("of a %s", (part, file) => {
  test("a tensor that is longer by one, along any axis, is refused", async () => {
    const checkpoint = await openPart(fixture(file), part);
    const names = needed(checkpoint, part);
    expect(names.length).toBeGreaterThanOrEqual(20);
    for (const name of names) {
      const { shape } = checkpoint.tensors.get(name)!;
      for (const axis of shape.keys()) {
        const error = reviewed(reshaped(checkpoint, name, shape.with(axis, shape[axis]! + 1)), part);
        expect.soft(error, `${name}, axis ${axis}`).toMatchObject({ code: "QEDIT_E_CHECKPOINT" });
      }
    }
  });

  test("a tensor without an axis, or without elements, is refused", async () => {
    const checkpoint = await openPart(fixture(file), part);
    for (const name of needed(checkpoint, part)) {
      const { shape } = checkpoint.tensors.get(name)!;
      const flat = reviewed(reshaped(checkpoint, name, shape.slice(1)), part);
      expect.soft(flat, `${name}, flat`).toMatchObject({ code: "QEDIT_E_CHECKPOINT" });
      expect.soft(reviewed(reshaped(checkpoint, name, [0, ...shape.slice(1)]), part)).toMatchObject({
        code: "QEDIT_E_CHECKPOINT",
        message: `Cannot use "${name}" of ${checkpoint.file}: it is empty`,
      });
    }
  });
});

test("embeddings of another width than the language model's are refused", async () => {
  const checkpoint = await openPart(fixture("tiny/text-encoder-fp32.safetensors"), "text_encoder");
  const [rows, width] = checkpoint.tensors.get("model.embed_tokens.weight")!.shape as [number, number];
  expect(reviewed(reshaped(checkpoint, "model.embed_tokens.weight", [rows, width + 1]), "text_encoder")).toMatchObject({
    code: "QEDIT_E_CHECKPOINT",
    message: expect.stringContaining(`has no rows of ${width} numbers`),
  });
});
