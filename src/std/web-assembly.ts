// WebAssembly modules of the package: where things lie in the memory that one of them works in.

/** What is used of WebAssembly, which Node's types leave out. */
interface WasmClasses {
  readonly Memory: new (limits: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: object };
}
const { Memory, Module, Instance } = (globalThis as unknown as { readonly WebAssembly: WasmClasses }).WebAssembly;

const PAGE = 65_536;
/** Bytes of a vector: everything is placed at a multiple. */
const VECTOR = 16;

/** What a module exports: functions of places in its memory, which are bytes from its beginning, and of numbers. */
export type WasmExports<Name extends string> = Readonly<Record<Name, (...numbers: number[]) => void>>;

/** A module, which is compiled when it is first opened. */
export class WasmModule<Name extends string> {
  readonly #base64: readonly string[];
  #compiled: object | undefined;

  /** In base64, in lines. It imports its memory as `qedit.memory`. */
  constructor(base64: readonly string[]) {
    this.#base64 = base64;
  }

  /** The functions over a memory of zeros of at least so many bytes. */
  open(bytes: number): { readonly memory: ArrayBuffer; readonly exports: WasmExports<Name> } {
    const memory = new Memory({ initial: Math.max(Math.ceil(bytes / PAGE), 1) });
    this.#compiled ??= new Module(Buffer.from(this.#base64.join(""), "base64"));
    const { exports } = new Instance(this.#compiled, { qedit: { memory } });
    return { memory: memory.buffer, exports: exports as WasmExports<Name> };
  }
}

/** Where things will lie in a memory, one after the other. */
export class WasmLayout {
  #bytes = 0;

  /** How many bytes everything takes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The place of so many bytes. */
  place(bytes: number): number {
    const at = this.#bytes;
    this.#bytes = wholeVectors(at + bytes);
    return at;
  }
}

/** The bytes of so many that are whole vectors. */
export function wholeVectors(bytes: number): number {
  return Math.ceil(bytes / VECTOR) * VECTOR;
}
