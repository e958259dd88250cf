// How the tensors of a published file are listed.
import type { StoredType } from "../../checkpoint/checkpoint.js";

/** Tensors of one shape. Patterns expand like shell braces: {a,b} to each word, {0..59} to each number. */
export type LayoutLine = readonly [pattern: string, dtype: StoredType, shape: readonly number[]];
