// One operator of a graph, as ONNX describes it: onnx/onnx.proto3, NodeProto.
import type { DType, Shape } from "./types.js";

/** An attribute of a node: a whole number, a float, a text, a list of whole numbers, or the graph that an operator of control flow runs. */
export type Attribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly text: string }
  | { readonly ints: readonly number[] }
  | { readonly body: Body };

/** What a value is known by. */
export interface NamedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** A graph inside a node. Its nodes also read values of the graphs around it: weights and constants are the outermost graph's alone. */
export interface Body {
  readonly name: string;
  readonly inputs: readonly NamedTensor[];
  readonly outputs: readonly NamedTensor[];
  readonly nodes: readonly Node[];
  /** What its nodes give. */
  readonly values: readonly NamedTensor[];
}

/** One operator of the graph. */
export interface Node {
  readonly name: string;
  readonly operator: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** What a node gives: shapes of its outputs, their type or the type of each; its attributes, and its domain unless it is ONNX's own. */
export interface NodeOptions {
  readonly shapes: readonly Shape[];
  readonly dtype: DType | readonly DType[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly domain?: string;
}

/** The domain of ONNX Runtime's own operators. */
export const MICROSOFT = "com.microsoft";

/** The bodies of a node, none but for operators of control flow. */
export function bodiesOf({ attributes }: Node): readonly Body[] {
  return Object.values(attributes).flatMap((attribute) => ("body" in attribute ? [attribute.body] : []));
}

/** Nodes with those of the bodies inside them, at any depth. */
export function withInnerNodes(nodes: readonly Node[]): Node[] {
  return nodes.flatMap((node) => [node, ...bodiesOf(node).flatMap((body) => withInnerNodes(body.nodes))]);
}
