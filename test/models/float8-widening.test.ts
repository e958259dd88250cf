// Weights in 8-bit floats looked up by their bytes, beside ONNX Runtime's Cast: the same bits.
import { describe, expect, test } from "vitest";
import { checkpointConfig, readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { Weights } from "../../src/checkpoint/weights.js";
import { Graph } from "../../src/graph/graph.js";
import type { Widening } from "../../src/graph/types.js";
import { buildLanguageModel, multimodalRope } from "../../src/models/qwen2.5-vl/language.js";
import { languageConfig } from "../../src/models/qwen2.5-vl/text-encoder-config.js";
import { weightAt } from "../../src/models/stored-weight.js";
import { float32 } from "../../src/std/tensor.js";
import { numbers } from "../graph/run.js";
import { temporaryFolder } from "../support/folder.js";
import { fixture } from "../support/golden.js";
import { openNetwork } from "../support/graphs.js";
import { writeRaw } from "../support/quantised.js";

const folder = temporaryFolder();
const WIDENINGS: readonly Widening[] = ["cast", "look-up"];

/** Bits, with one pattern for every NaN. */
function bitsOf(data: Float32Array): Uint32Array {
  return new Uint32Array(data.map((value) => (Number.isNaN(value) ? Number.NaN : value)).buffer);
}

describe.each(["F8_E4M3", "F8_E5M2"] as const)("numbers of %s", (dtype) => {
  test.each([
    ["of one row", [1, 7]],
    ["of odd lengths", [33, 41]],
    ["of every byte", [4, 64]],
    ["of several chunks", [512, 1025]],
    ["of several chunks of odd lengths", [2 * 769, 769]],
    ["of more than a chunk that does not divide", [701, 1009]],
    ["of a kernel", [6, 5, 3, 3]],
  ])("%s are those of Cast", async (_, shape) => {
    const length = shape.reduce((product, dim) => product * dim, 1);
    const bytes = Uint8Array.from({ length }, (_, at) => at * 167 + (at >> 8));
    const file = await writeRaw(folder.at(`${dtype}-${shape.join("x")}.safetensors`), {
      "layer.weight": { dtype, shape, bytes },
    });
    const checkpoint = await readSafetensors(file);
    const found: Float32Array[] = [];
    for (const widening of WIDENINGS) {
      await using network = await openNetwork(checkpoint, {
        optimization: "none",
        widening,
        build(graph, w) {
          expect(w.widening).toBe(widening);
          graph.output("y", weightAt(w.at("layer"), "f32").mul(graph.input("x", "f32", [1])));
        },
      });
      const { y } = await network.session.run({ x: float32([1], Float32Array.of(1)) });
      expect(y!.shape).toEqual(shape);
      found.push(y!.data as Float32Array);
    }
    expect(found[0]!.some((value) => value !== 0 && !Number.isNaN(value))).toBe(true);
    expect(bitsOf(found[1]!)).toEqual(bitsOf(found[0]!));
  });
});

test.each(["text-encoder-fp8", "text-encoder-comfy-quant"])(
  "a language model of %s gives the same bits",
  async (name) => {
    const checkpoint = await readSafetensors(fixture(`tiny/${name}.safetensors`));
    const config = languageConfig(Weights.of(new Graph("numbers"), checkpoint), checkpointConfig(checkpoint));
    const tokens = 9;
    const row = Array.from({ length: tokens }, (_, position) => position);
    const { cos, sin } = multimodalRope([row, row, row], config);
    const found: (readonly [states: unknown, lookUps: number])[] = [];
    for (const widening of WIDENINGS) {
      let lookUps = 0;
      await using network = await openNetwork(checkpoint, {
        optimization: "none",
        widening,
        build(graph, w) {
          buildLanguageModel(graph, w, { config, compute: "f32" });
          lookUps = graph.nodes.filter(({ operator }) => operator === "Scan").length;
        },
      });
      const { hidden_states: states } = await network.session.run({
        inputs_embeds: numbers([1, tokens, config.width]),
        rope_cos: cos,
        rope_sin: sin,
      });
      found.push([states!.data, lookUps]);
    }
    const [[cast, none], [lookedUp, some]] = found as [(typeof found)[number], (typeof found)[number]];
    expect(lookedUp).toEqual(cast);
    expect(none).toBe(0);
    expect(some).toBeGreaterThan(0);
  },
);
