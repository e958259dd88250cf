// The exported models that sample: references packed for the sampler, and Euler's method as a loop around one evaluation of the transformer.
import { Weights } from "../../checkpoint/weights.js";
import { loop } from "../../graph/control-flow.js";
import { counted, gather, part, refuseUnless, sumOver, unsqueeze } from "../../graph/indexing.js";
import { concat, type Value } from "../../graph/value.js";
import { gridOfLatent, latentTokens } from "../../models/graph-tokens.js";
import { CFG_NORM_EPSILON } from "../../sampling/guidance.js";
import type { ExportedModel, TensorSpec } from "../triton/exported-model.js";
import type { ModelTensors } from "../triton/tensor-specs.js";
import { describedGraph } from "./described-graph.js";
import type { ExportedTransformer, SampledNetwork, SamplerInputs, VelocityAt } from "./sampled-network.js";
import { refuseNonFinite, violated } from "./violations.js";

/** `join_0`: the tensors that it gives, with no rows. Triton takes their lengths only where ONNX Runtime does not know them before a run. */
export function emptyReferences(tensors: ModelTensors): ExportedModel {
  return describedGraph(tensors, {
    shapes: { noise: [1, Number(tensors.inputs[0]!.dims[1]), "h", "w"] },
    optimization: "full",
    build({ noise }, graph) {
      const start = graph.constant("i64", [1], [0]);
      const end = noise!.shapeValue(2, 3).mul(0);
      const empty = ({ name, datatype, dims }: TensorSpec) => {
        const axis = dims.indexOf(-1);
        const shape = dims.map((length) => Math.max(length, 1));
        const zeros = new Array<number>(shape.reduce((product, length) => product * length, 1)).fill(0);
        const one = graph.constant(datatype === "INT64" ? "i64" : "f32", shape, zeros);
        return [name, part(one, { axis, start, end, length: `${name} rows` })] as const;
      };
      return Object.fromEntries(tensors.outputs.map(empty));
    },
  });
}

/** `join_1`, `join_2`, … */
export function joinGraph(tensors: ModelTensors, { channels, patchSize }: SampledNetwork): ExportedModel {
  const config = { patchSize };
  const names = tensors.inputs.map(({ name }) => name);
  return describedGraph(tensors, {
    shapes: Object.fromEntries(names.map((name, index) => [name, [1, channels, `h_${index}`, `w_${index}`]])),
    optimization: "full",
    build(inputs) {
      const latents = names.map((name) => inputs[name]!);
      const tokens = latents.map((latent, index) => {
        const grid = gridOfLatent(latent, { rows: `rows_${index}`, columns: `columns_${index}` }, config);
        return latentTokens(latent, grid, config);
      });
      return {
        reference_tokens: concat(tokens, 1),
        reference_sizes: concat(
          latents.map((latent) => unsqueeze(latent.shapeValue(2, 4), 0)),
          0,
        ),
      };
    },
  });
}

/** `sample`, or `sample_cfg` where its tensors have a negative prompt. */
export function samplerGraph(
  tensors: ModelTensors,
  network: SampledNetwork,
  transformer: ExportedTransformer,
): ExportedModel {
  const { channels, tokenWidth, textWidth } = network;
  return describedGraph(tensors, {
    shapes: {
      noise: [1, channels, "h", "w"],
      reference_tokens: [1, "reference", tokenWidth],
      reference_sizes: ["references", 2],
      prompt_embeds: [1, "text", textWidth],
      image_positions: ["references"],
      sigmas: ["levels"],
      negative_prompt_embeds: [1, "negative text", textWidth],
      negative_image_positions: ["references"],
    },
    optimization: transformer.optimization,
    build(inputs, graph) {
      const w = Weights.of(graph, transformer.checkpoint, transformer.adapters);
      return { latents: sampled(inputs, w, { network, transformer }) };
    },
  });
}

function sampled(
  inputs: SamplerInputs,
  w: Weights,
  { network, transformer }: { readonly network: SampledNetwork; readonly transformer: ExportedTransformer },
): Value {
  const noise = inputs["noise"]!;
  const sigmas = checkedSigmas(inputs["sigmas"]!);
  const steps = sigmas.shapeValue().sub(1);
  const start = sigmas.graph.constant("i64", [1], [0]);
  const evaluated = part(sigmas, { axis: 0, start, end: steps, length: "steps" });
  const velocityAt = network.velocityAt(inputs, evaluated, { w, transformer });
  const [x] = loop(noise.graph, { trips: steps, carried: [{ initial: noise }] }, ([x], step) => {
    const [sigma, next] = [gather(sigmas, step), gather(sigmas, step.add(1))];
    const state = { x: x!, sigma, velocity: velocityAt(step, sigma) };
    const denoised = denoisedBy(state, inputs, transformer);
    return [x!.add(x!.sub(denoised).div(sigma).mul(next.sub(sigma)))];
  });
  const remaining = gather(sigmas, steps).mul(-1).add(1);
  return refuseNonFinite(x!.div(remaining), "the latents");
}

// Fewer than two levels are no step: the noise would come back as the result. Levels that rise would add noise that is not there.
function checkedSigmas(given: Value): Value {
  const { graph } = given;
  const count = given.shapeValue();
  const sigmas = refuseUnless(given, violated(count.atLeast(2)), "sigmas must be two noise levels or more");
  const [first, second] = [graph.constant("i64", [1], [0]), graph.constant("i64", [1], [1])];
  const length = "steps";
  const before = part(sigmas, { axis: 0, start: first, end: count.sub(1), length });
  const after = part(sigmas, { axis: 0, start: second, end: count, length });
  const rising = counted(after.atLeast(before)).sum().reshape([1]);
  const outside = violated(gather(sigmas, first).mul(-1).atLeast(-1)).add(
    violated(gather(sigmas, count.sub(1)).atLeast(0)),
  );
  return refuseUnless(sigmas, rising.add(outside), "sigmas must fall, from 1 at most to 0 at least");
}

interface State {
  readonly x: Value;
  /** f32 [1] */
  readonly sigma: Value;
  readonly velocity: ReturnType<VelocityAt>;
}

// See guidedDenoise.
function denoisedBy(
  { x, sigma, velocity }: State,
  inputs: SamplerInputs,
  { cfgNorm }: Pick<ExportedTransformer, "cfgNorm">,
): Value {
  const predict = (which: Parameters<State["velocity"]>[1]) => x.sub(velocity(x, which).mul(sigma));
  const positive = predict("prompt");
  const cfg = inputs["cfg"];
  const guided = cfg === undefined ? positive : guide(positive, predict("negative_prompt"), cfg);
  return cfgNorm === undefined ? guided : normalised(guided, positive, cfgNorm);
}

function guide(positive: Value, negative: Value, cfg: Value): Value {
  return negative.add(positive.sub(negative).mul(cfg));
}

// CFGNorm: shrinks each latent pixel whose norm grew past that of the positive prediction.
function normalised(guided: Value, positive: Value, strength: number): Value {
  const norm = (latent: Value) => sumOver(latent.mul(latent), 1).sqrt();
  const ratio = norm(positive).div(norm(guided).add(CFG_NORM_EPSILON)).min(1);
  return guided.mul(ratio).mul(strength);
}
