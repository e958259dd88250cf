// Hashes of tensors, for finding a result that was made before.
import { createHash } from "node:crypto";
import type { Tensor } from "./tensor.js";

/** Hexadecimal SHA-256 of a tensor: its type, shape and elements. */
export function tensorHash({ type, shape, data }: Tensor): string {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return createHash("sha256")
    .update(JSON.stringify([type, shape]))
    .update(bytes)
    .digest("hex");
}
