// The ONNX graph under construction: inputs, weights that stay in their files, nodes, outputs.
// Pure: it holds names and shapes, opens nothing and runs nothing.
import { elementBytes } from "./elements.js";
import type { Body, NamedTensor, Node, NodeOptions } from "./node.js";
import { type DType, ELEMENT, type Shape, shapeText, type Widening } from "./types.js";
import { type NodeBuilder, Value } from "./value.js";

/** A weight that stays where it is: bytes [offset, offset + length) of a file, given by absolute path. */
export interface External {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly length: number;
}

/** A constant that is part of the graph itself (small: axes, epsilons, shapes). */
export interface Constant {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Where nodes are added: the graph itself, or a body. */
interface Scope {
  readonly nodes: Node[];
  readonly values: Value[];
  readonly shared: Map<string, Value>;
}

/** An ONNX graph under construction; methods of its values add nodes. */
export class Graph implements NodeBuilder {
  readonly name: string;
  readonly widening: Widening;
  readonly inputs = new Map<string, Value>();
  readonly outputs = new Map<string, Value>();
  readonly externals = new Map<string, External>();
  readonly constants = new Map<string, Constant>();
  readonly nodes: Node[] = [];
  readonly values: Value[] = [];
  #path = "";
  // The graph, and the bodies that are under construction, each inside the one before it.
  readonly #scopes: Scope[] = [{ nodes: this.nodes, values: this.values, shared: new Map() }];
  readonly #names = new Map<string, number>();
  readonly #constantNames = new Map<string, Value>();

  constructor(name: string, { widening = "cast" }: { readonly widening?: Widening } = {}) {
    this.name = name;
    this.widening = widening;
  }

  /** Declares an input that is fed at every run. */
  input(name: string, dtype: DType, shape: Shape): Value {
    if (this.#scopes.length > 1) throw new Error(`internal: graph input "${name}" is declared in a body`);
    if (this.inputs.has(name)) throw new Error(`internal: graph input "${name}" is declared twice`);
    const value = new Value(this, { name, dtype, shape });
    this.inputs.set(name, value);
    return value;
  }

  /** Declares that a value leaves the graph under this name. */
  output(name: string, value: Value): void {
    if (this.#scopes.length > 1) throw new Error(`internal: graph output "${name}" is declared in a body`);
    if (this.outputs.has(name)) throw new Error(`internal: graph output "${name}" is declared twice`);
    // The Identity gives the output its name; the value keeps the name that its node gave it.
    const [named] = this.node("Identity", [value], { shapes: [value.shape], dtype: value.dtype }, [name]);
    this.outputs.set(name, named!);
  }

  /** A weight in its file, as an initializer; one name is one initializer. Throws when the byte range does not fit the shape. */
  external(name: string, external: External): Value {
    const bytes = external.shape.reduce((count, dim) => count * dim, ELEMENT[external.dtype].bytes);
    if (bytes !== external.length) {
      throw new Error(
        `internal: "${name}" ${external.dtype}${shapeText(external.shape)} is ${bytes} bytes, its range ${external.length}`,
      );
    }
    this.externals.set(name, external);
    return new Value(this, { name, dtype: external.dtype, shape: external.shape });
  }

  /** A small constant; equal ones are stored once. */
  constant(dtype: DType, shape: readonly number[], numbers: readonly number[]): Value {
    const key = `${dtype}[${shape.join()}]=${numbers.join()}`;
    const known = this.#constantNames.get(key);
    if (known) return known;
    const name = `constant_${this.constants.size}`;
    this.constants.set(name, { dtype, shape, bytes: elementBytes(dtype, numbers) });
    const value = new Value(this, { name, dtype, shape });
    this.#constantNames.set(key, value);
    return value;
  }

  /** Memoizes a value by key, for what several places share; its nodes are named under no path. What a body makes is shared inside it alone. */
  once(key: string, build: () => Value): Value {
    const known = this.#scopes.findLast(({ shared }) => shared.has(key))?.shared.get(key);
    if (known) return known;
    const value = this.scoped("", build);
    this.#scopes.at(-1)!.shared.set(key, value);
    return value;
  }

  /**
   * The graph inside a node of control flow: nodes that are added while `build` runs are its own, whatever values they read. Inputs are named
   * below the place of `operator`.
   */
  body(operator: string, inputs: readonly NamedTensor[], build: (inputs: readonly Value[]) => readonly Value[]): Body {
    const name = this.nodeName(`${operator} body`);
    const values = inputs.map((each) => new Value(this, { ...each, name: `${name}.${each.name}` }));
    const scope: Scope = { nodes: [], values: [], shared: new Map() };
    this.#scopes.push(scope);
    try {
      const given = new Set<Value>();
      const outputs = build(values).map((value) => {
        // What a body gives is made in it, and given once: an Identity makes a result of everything else, an input or a value from outside.
        const isResult = scope.values.includes(value) && !given.has(value);
        given.add(value);
        return isResult ? value : this.node("Identity", [value], { shapes: [value.shape], dtype: value.dtype })[0]!;
      });
      return { name, inputs: values, outputs, nodes: scope.nodes, values: scope.values };
    } finally {
      this.#scopes.pop();
    }
  }

  /** Adds a node and gives its outputs; `inputs` may hold undefined for an optional input that is left out. */
  node(
    operator: string,
    inputs: readonly (Value | undefined)[],
    options: NodeOptions,
    outputNames?: readonly string[],
  ): Value[] {
    const name = this.nodeName(operator);
    const outputs = options.shapes.map((shape, index) => {
      const output = outputNames?.[index] ?? (options.shapes.length === 1 ? name : `${name}.${index}`);
      const dtype = typeof options.dtype === "string" ? options.dtype : options.dtype[index]!;
      return new Value(this, { name: output, dtype, shape });
    });
    const scope = this.#scopes.at(-1)!;
    scope.nodes.push({
      name,
      operator,
      domain: options.domain ?? "",
      inputs: inputs.map((value) => value?.name ?? ""),
      outputs: outputs.map((value) => value.name),
      attributes: options.attributes ?? {},
    });
    scope.values.push(...outputs);
    return outputs;
  }

  /** Runs `build` with nodes named under `path` (the checkpoint's own key path), so that errors and profiles say where. */
  scoped<T>(path: string, build: () => T): T {
    const outer = this.#path;
    this.#path = path;
    try {
      return build();
    } finally {
      this.#path = outer;
    }
  }

  /** Where the next node would stand, for messages: `blocks.0.attn.to_q/MatMul`. */
  place(operator: string): string {
    return this.#path === "" ? operator : `${this.#path}/${operator}`;
  }

  private nodeName(operator: string): string {
    const place = this.place(operator);
    const count = this.#names.get(place) ?? 0;
    this.#names.set(place, count + 1);
    return count === 0 ? place : `${place}_${count}`;
  }
}
