// Host tensors: inputs and outputs of graphs, and the contents of artifacts.

interface Arrays {
  readonly float32: Float32Array;
  readonly int32: Int32Array;
  readonly int64: BigInt64Array;
  readonly uint8: Uint8Array;
}

/** Element types that cross the engine's border (no half or 8-bit floats there). */
export type TensorType = keyof Arrays;

/** The typed array that holds the elements of a tensor of type T. */
export type TensorData<T extends TensorType = TensorType> = Arrays[T];

/** A dense, row-major array with its shape. The data is never changed after it was handed over. */
export interface Tensor<T extends TensorType = TensorType> {
  readonly type: T;
  readonly shape: readonly number[];
  readonly data: TensorData<T>;
  /** Whether its memory goes to the engine that it is passed to, once: nothing else reads it. Otherwise it is copied. */
  readonly isGiven?: boolean;
}

/** Tensors by the names they carry in graphs and files. */
export type Tensors = Readonly<Record<string, Tensor>>;

/** Tensors whose memory goes to the engine that they are passed to. */
export function given(tensors: Tensors): Tensors {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, { ...tensor, isGiven: true }]));
}

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((count, dim) => count * dim, 1);
}

/** Wraps data as a tensor; throws when the shape does not hold exactly its elements. */
export function tensor<T extends TensorType>(type: T, shape: readonly number[], data: TensorData<T>): Tensor<T> {
  if (elementCount(shape) !== data.length) {
    throw new Error(`internal: shape [${shape.join(", ")}] does not hold ${data.length} elements`);
  }
  return { type, shape, data };
}

/** A float32 tensor, zeros unless data is given. */
export function float32(
  shape: readonly number[],
  data: Float32Array = new Float32Array(elementCount(shape)),
): Tensor<"float32"> {
  return tensor("float32", shape, data);
}
