// Ways of writing the same arithmetic, equal in numbers but for the order of sums. Which is faster is a question of the device: `npm run
// bench:gpu` opens blocks of the transformer in each form and prints what it brings (bench/README.md).

/** How a graph is written where there is a choice. */
export interface GraphForms {
  /** LoRAs on layers that read one input: "stacked", one product down for all and one up for each layer, or "apart", two products for each. */
  readonly loras: "stacked" | "apart";
  /** Products of 16-bit values with weights in float8 e4m3: a Cast and a Gemm, or ONNX Runtime's own operator for such weights, which only CUDA has. */
  readonly fp8: "cast" | "block-quantized";
  /** A residual and the modulated normalisation of the sum: an Add and a LayerNormalization, or "with-residual" one SkipLayerNormalization. */
  readonly norms: "apart" | "with-residual";
}

/**
 * The forms of every graph that is not told otherwise. Stacked LoRAs are less than half the nodes, and read their input once; of the others
 * the plain one stands until a GPU has measured them.
 */
export const FORMS: GraphForms = { loras: "stacked", fp8: "cast", norms: "apart" };
