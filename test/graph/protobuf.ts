// Reads protocol buffers by field number, without a schema: https://protobuf.dev/programming-guides/encoding/

/** A message: its fields by number, each as often as it occurs. */
export class Message {
  readonly fields = new Map<number, (bigint | Uint8Array)[]>();

  constructor(bytes: Uint8Array) {
    // A Buffer's own slice() shares its memory.
    bytes = new Uint8Array(bytes);
    let place = 0;
    const varint = () => {
      let value = 0n;
      for (let shift = 0n; ; shift += 7n) {
        const byte = bytes[place++]!;
        value |= BigInt(byte & 127) << shift;
        if (byte < 128) return value;
      }
    };
    while (place < bytes.length) {
      const tag = Number(varint());
      const length = { 0: 0, 1: 8, 5: 4 }[tag & 7] ?? Number(varint());
      const value = (tag & 7) === 0 ? varint() : bytes.subarray(place, (place += length));
      this.fields.set(tag >> 3, [...(this.fields.get(tag >> 3) ?? []), value]);
    }
  }

  messages(field: number): Message[] {
    return (this.fields.get(field) ?? []).map((bytes) => new Message(bytes as Uint8Array));
  }

  texts(field: number): string[] {
    return (this.fields.get(field) ?? []).map((bytes) => new TextDecoder().decode(bytes as Uint8Array));
  }

  text(field: number): string {
    return this.texts(field)[0] ?? "";
  }

  /** Whole numbers of a field, packed or not. */
  numbers(field: number): number[] {
    return (this.fields.get(field) ?? []).flatMap((value) =>
      typeof value === "bigint" ? [Number(value)] : unpacked(value),
    );
  }
}

function unpacked(bytes: Uint8Array): number[] {
  const numbers: number[] = [];
  for (let place = 0, value = 0n, shift = 0n; place < bytes.length; place++) {
    value |= BigInt(bytes[place]! & 127) << shift;
    shift += 7n;
    if (bytes[place]! >= 128) continue;
    numbers.push(Number(BigInt.asIntN(64, value)));
    [value, shift] = [0n, 0n];
  }
  return numbers;
}
