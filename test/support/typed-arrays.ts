// Lets toEqual compare typed arrays by their bytes, which takes a thousandth of the time that it takes by elements: tensors have millions.
import { expect } from "vitest";

expect.addEqualityTesters([
  (a: unknown, b: unknown) =>
    // Other bytes can be equal numbers, and the elements that differ are to be shown.
    isTypedArray(a) && isTypedArray(b) && a.constructor === b.constructor && bytesOf(a).equals(bytesOf(b))
      ? true
      : undefined,
]);

function isTypedArray(value: unknown): value is NodeJS.TypedArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

function bytesOf({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
