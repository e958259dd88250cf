// A cursor over a checkpoint that gives graph values: `w.at("attn.to_q").get("weight")` points into the file.
// The published key is the code path, verbatim; unused() lists what no graph read.

import { type Float8Bytes, isFloat8 } from "../graph/float8.js";
import type { Graph } from "../graph/graph.js";
import type { DType, Widening } from "../graph/types.js";
import type { Value } from "../graph/value.js";
import { QeditError } from "../std/errors.js";
import type { Checkpoint, PackedPart, StoredTensor, StoredType } from "./checkpoint.js";
import type { ModuleAdapter } from "./lora/module-adapter.js";
import { namedParts, PART_NAMES } from "./packed/packed-file.js";
import { isRaw } from "./packed/packed-layout.js";
import { IDLE_BESIDE_WEIGHTS, SCALE_NAMES, type ScaleGrid, scaleGrid } from "./weight-scales.js";

/** Graph types of the stored types that weights have; other integers hold packed formats, which qedit does not unpack. */
const GRAPH_TYPE: Partial<Record<StoredType, DType>> = {
  F64: "f64",
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  F8_E4M3: "f8_e4m3",
  F8_E5M2: "f8_e5m2",
  I8: "i8",
};

/** An active LoRA of a graph. */
export interface Adapter {
  /** The graph input that carries its strength, f32 [1]. */
  readonly name: string;
  /** Its strength where that is part of the graph; it has no input then. */
  readonly fixedStrength?: number;
  /** What it does to each module, by the model's name of it. */
  readonly modules: ReadonlyMap<string, ModuleAdapter>;
}

/** A module's adapter as graph values, with its strength [1]. */
export interface AdapterValues extends ModuleAdapter<Value> {
  readonly strength: Value;
}

/** The scale of a weight, f32 in the shape that the file has, and what each of its numbers is for. */
export interface ScaleValue {
  readonly value: Value;
  readonly grid: ScaleGrid;
}

/** One number for each block of a row, times one for several blocks if there is one. */
export interface BlockNumberValues {
  readonly each: Value;
  readonly superBlock: Value | undefined;
}

/** Packed weights as graph values (see PackedParts): scales and offsets [rows, blocks]. */
export interface PackedValues {
  readonly bits: 4 | 8;
  readonly block: number;
  readonly zero: number;
  readonly rows: number;
  readonly columns: number;
  /** The codes u8: [rows, bytes], or [rows, blocks, bytes of a block], the same bytes as another initializer. */
  readonly codes: (by: "rows" | "blocks") => Value;
  readonly scales: BlockNumberValues;
  readonly offsets: BlockNumberValues | undefined;
}

interface Source {
  readonly graph: Graph;
  readonly checkpoint: Checkpoint;
  readonly adapters: readonly Adapter[];
  readonly folders: ReadonlySet<string>;
  readonly used: Set<string>;
}

/** A place in a checkpoint: reads names below its path. */
export class Weights {
  readonly path: string;
  readonly #source: Source;

  private constructor(source: Source, path: string) {
    this.#source = source;
    this.path = path;
  }

  /** The root of a checkpoint, for use in one graph, with the active LoRAs. */
  static of(graph: Graph, checkpoint: Checkpoint, adapters: readonly Adapter[] = []): Weights {
    const folders = new Set<string>();
    for (const name of checkpoint.tensors.keys()) {
      for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) folders.add(name.slice(0, dot));
    }
    return new Weights({ graph, checkpoint, adapters, folders, used: new Set() }, "");
  }

  /** The cursor below `path`. */
  at(path: string | number): Weights {
    return new Weights(this.#source, this.#key(String(path)));
  }

  /** Whether a tensor of this name, or any below it, exists. */
  has(name: string | number): boolean {
    const key = this.#key(String(name));
    return this.#source.checkpoint.tensors.has(key) || this.#source.folders.has(key);
  }

  /** The checkpoint as the user named it, for messages. */
  get file(): string {
    return this.#source.checkpoint.file;
  }

  /** How the graph widens weights in 8-bit floats. */
  get widening(): Widening {
    return this.#source.graph.widening;
  }

  /** The names of all tensors of the checkpoint. */
  names(): Iterable<string> {
    return this.#source.checkpoint.tensors.keys();
  }

  /** How many numbers from 0 exist below this path: the blocks of a network. Throws QEDIT_E_CHECKPOINT when one between them is missing. */
  count(name: string): number {
    const list = this.at(name);
    let count = 0;
    while (list.has(count)) count += 1;
    const later = list.#numbers().filter((each) => each > count);
    if (later.length === 0) return count;
    const next = `${list.path}.${later.reduce((least, each) => Math.min(least, each))}`;
    throw new QeditError(
      "QEDIT_E_CHECKPOINT",
      `Cannot use ${this.file}: it has "${next}", and no "${list.path}.${count}"`,
      {
        hint: "A part of it is missing: take it from its publisher again, or another one by `qedit models pull`",
      },
    );
  }

  // Those that stand below this path.
  #numbers(): number[] {
    const start = `${this.path}.`;
    return [...this.#source.folders].flatMap((folder) => {
      const inner = folder.startsWith(start) ? folder.slice(start.length) : "";
      return /^\d+$/.test(inner) ? [Number(inner)] : [];
    });
  }

  /** The stored tensor; throws QEDIT_E_CHECKPOINT when the file has none of that name, or an empty one. */
  stored(name: string): StoredTensor {
    const key = this.#key(name);
    const stored = this.#source.checkpoint.tensors.get(key);
    if (!stored) {
      throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot find "${key}" in ${this.#source.checkpoint.file}`, {
        hint: "The file may be of another model: `qedit run --help` says which option takes which file",
      });
    }
    if (stored.shape.includes(0)) {
      throw new QeditError(
        "QEDIT_E_CHECKPOINT",
        `Cannot use "${key}" of ${this.#source.checkpoint.file}: it is empty`,
        {
          hint: "Take the file from its publisher again",
        },
      );
    }
    return stored;
  }

  /** Shape of a tensor as stored. */
  shape(name: string): readonly number[] {
    return this.stored(name).shape;
  }

  /** The tensor as a graph value of its stored type; throws QEDIT_E_CHECKPOINT when the file has none, or one of another shape than expected. */
  get(name: string, shape?: readonly number[]): Value {
    const stored = this.stored(name);
    const key = this.#key(name);
    if (isRaw(stored)) throw new Error(`internal: "${key}" is as GGUF stores it`);
    const dtype = GRAPH_TYPE[stored.dtype];
    if (!dtype) throw this.#refuse(key, `weights stored as ${stored.dtype} are not supported here`);
    if (shape && shape.join() !== stored.shape.join()) {
      throw this.#refuse(key, `shape [${shape.join(", ")}] is wanted, the file has [${stored.shape.join(", ")}]`);
    }
    this.#source.used.add(key);
    return this.#source.graph.external(key, { ...stored, dtype });
  }

  /** A tensor of 8-bit floats as its bytes, for operators that have no kernels for such floats; undefined where it has other elements. */
  float8(name: string): Float8Bytes | undefined {
    const stored = this.stored(name);
    const dtype = GRAPH_TYPE[stored.dtype];
    if (dtype === undefined || !isFloat8(dtype)) return undefined;
    const key = this.#key(name);
    this.#source.used.add(key);
    const bytes = (shape = stored.shape) =>
      this.#source.graph.external(`${key}.bytes`, { ...stored, shape, dtype: "u8" });
    return { dtype, shape: stored.shape, bytes };
  }

  /** The packed weight at this path, if it is one: its parts in their stored types. */
  packed(): PackedValues | undefined {
    const { packed, file, shape: matrix } = this.stored("weight");
    if (packed === undefined) return undefined;
    const key = this.#key("weight");
    this.#source.used.add(key);
    const external = (suffix: string, { dtype, shape, offset, length }: PackedPart) =>
      this.#source.graph.external(key + suffix, { dtype: GRAPH_TYPE[dtype] ?? "u8", shape, file, offset, length });
    const { bits, block, codes } = packed;
    const [rows, columns] = matrix as [number, number];
    // As the initializer has the shape that the product takes, ONNX Runtime lays it out for the product once.
    const blocks = { ...codes, shape: [rows, columns / block, (block * bits) / 8] };
    const parts = new Map(
      namedParts(packed).flatMap(([suffix, part]) =>
        suffix === "" ? [] : [[suffix, external(suffix, part)] as const],
      ),
    );
    const numbers = (each: string, superBlock: string) => {
      const value = parts.get(each);
      return value && { each: value, superBlock: parts.get(superBlock) };
    };
    return {
      ...packed,
      ...{ rows, columns },
      codes: (by) => (by === "rows" ? external("", codes) : external(".blocks", blocks)),
      scales: numbers(PART_NAMES.scales, PART_NAMES.superScales)!,
      offsets: numbers(PART_NAMES.offsets, PART_NAMES.superOffsets),
    };
  }

  /** Columns of each group of the weight at this path that were rotated before they were rounded; undefined: none. */
  rotated(): number | undefined {
    return this.stored("weight").rotated;
  }

  /** The scale of the weight at this path, if the file has one; throws QEDIT_E_CHECKPOINT when it fits no part of the weight. */
  scale(): ScaleValue | undefined {
    const name = SCALE_NAMES.find((each) => this.#source.checkpoint.tensors.has(this.#key(each)));
    for (const idle of IDLE_BESIDE_WEIGHTS.flatMap(({ names }) => names)) this.#source.used.add(this.#key(idle));
    if (name === undefined) {
      // Integers are multiples of something.
      if (this.stored("weight").dtype === "I8")
        throw this.#refuse(this.#key("weight"), "8-bit integers without a scale");
      return undefined;
    }
    const [scale, weight] = [this.stored(name), this.stored("weight")];
    const grid = scaleGrid(scale, weight);
    if (grid === undefined) {
      const reason = `a scale of shape [${scale.shape.join(", ")}] fits neither rows nor blocks of a weight [${weight.shape.join(", ")}]`;
      throw this.#refuse(this.#key(name), reason);
    }
    return { value: this.get(name).cast("f32"), grid };
  }

  /** What the active LoRAs do to the module at this path. */
  adapters(): AdapterValues[] {
    const { graph, adapters } = this.#source;
    return adapters.flatMap(({ name, modules, fixedStrength }) => {
      const own = modules.get(this.path);
      if (!own) return [];
      const values = Object.entries(own.parts).map(([part, stored]) => {
        const dtype = GRAPH_TYPE[stored.dtype];
        if (!dtype)
          throw this.#refuse(`${this.path} (${name} ${part})`, `weights stored as ${stored.dtype} are not supported`);
        return [part, graph.external(`${name}:${this.path}.${part}`, { ...stored, dtype })] as const;
      });
      const strength =
        fixedStrength === undefined
          ? (graph.inputs.get(name) ?? graph.input(name, "f32", [1]))
          : graph.constant("f32", [1], [fixedStrength]);
      return [{ ...own, parts: Object.fromEntries(values), strength }];
    });
  }

  /** Runs `build` with the nodes that it adds named under this path. */
  scoped<T>(build: () => T): T {
    return this.#source.graph.scoped(this.path, build);
  }

  /** Tensors of the file that no graph read, without those beside weights that need not be read. */
  unused(): string[] {
    return [...this.#source.checkpoint.tensors.keys()].filter((key) => !this.#source.used.has(key));
  }

  /** The tensor that was read last, of those that the file has; undefined before the first. */
  lastRead(): string | undefined {
    return [...this.#source.used].reverse().find((key) => this.#source.checkpoint.tensors.has(key));
  }

  #key(name: string): string {
    return this.path === "" ? name : `${this.path}.${name}`;
  }

  #refuse(key: string, reason: string): QeditError {
    return new QeditError("QEDIT_E_CHECKPOINT", `Cannot use "${key}" in ${this.#source.checkpoint.file}: ${reason}`);
  }
}
