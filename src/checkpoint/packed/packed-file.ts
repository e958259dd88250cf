// Packed weights in .safetensors files, as qedit writes them: the parts of each matrix behind one another, and in the metadata what they mean.
// A file that holds `name` as packed weights has the tensors `name` (codes), `name.scales`, and where there are some `name.super_scales`, `name.offsets`
// and `name.super_offsets` (see PackedParts).
import * as v from "valibot";
import { QeditError } from "../../std/errors.js";
import { shown } from "../../std/foreign-text.js";
import type { BlockNumbers, Checkpoint, PackedPart, PackedParts, StoredTensor, StoredType } from "../checkpoint.js";
import { BLOCK_TYPES, type BlockTypeName } from "../gguf/block-types.js";
import { metadataObject } from "../safetensors/safetensors-header.js";

/** The metadata key that says what packed weights mean. */
const PACKED_KEY = "qedit_packed";
/** Changes with the meaning of the metadata. */
const PACKED_VERSION = 1;

/** What the tensors of packed weights are called, behind the name of the weight. */
export const PART_NAMES = {
  scales: ".scales",
  superScales: ".super_scales",
  offsets: ".offsets",
  superOffsets: ".super_offsets",
} as const;

/** The part that has a number for each super-block. */
export const SUPER_OF = { scales: "superScales", offsets: "superOffsets" } as const;

/** Blocks that ONNX Runtime's product knows on every device (fixtures/kernels). */
const BLOCKS = [16, 32, 64, 128] as const;
const BLOCK_NAMES = Object.keys(BLOCK_TYPES) as BlockTypeName[];

/** How one matrix is packed. */
const form = v.object({
  /** The type that its numbers had, or have: `Q4_K`, `INT8`. */
  type: v.picklist([...BLOCK_NAMES, "INT8", "INT4"]),
  bits: v.picklist([4, 8]),
  block: v.picklist(BLOCKS),
  zero: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255)),
});

const packing = v.object({ version: v.literal(PACKED_VERSION), weights: v.record(v.string(), form) });

/** How one matrix is packed. */
export type PackedForm = Readonly<v.InferOutput<typeof form>>;

/** The metadata of a file with packed weights. */
export function packedMetadata(weights: ReadonlyMap<string, PackedForm>): Readonly<Record<string, string>> {
  return { [PACKED_KEY]: JSON.stringify({ version: PACKED_VERSION, weights: Object.fromEntries(weights) }) };
}

/** A checkpoint with its packed weights as matrices; one without comes back as it is. Throws QEDIT_E_CHECKPOINT for parts that do not fit together. */
export function withPacked(checkpoint: Checkpoint): Checkpoint {
  const text = checkpoint.metadata[PACKED_KEY];
  if (text === undefined) return checkpoint;
  const { success, output } = v.safeParse(packing, metadataObject(text));
  if (!success) throw refusal(checkpoint.file, `its metadata "${PACKED_KEY}" is of no form that this release knows`);
  const tensors = new Map(checkpoint.tensors);
  for (const [name, each] of Object.entries(output.weights)) {
    const packed = packedTensor(name, each, checkpoint);
    for (const part of Object.values(PART_NAMES)) tensors.delete(name + part);
    tensors.set(name, packed);
  }
  const { [PACKED_KEY]: _, ...metadata } = checkpoint.metadata;
  return { ...checkpoint, tensors, metadata };
}

function packedTensor(
  name: string,
  { type, bits, block, zero }: PackedForm,
  { file, tensors }: Checkpoint,
): StoredTensor {
  const refuse = (reason: string) => refusal(file, `"${shown(name)}" ${reason}`);
  const codes = tensors.get(name);
  if (codes?.dtype !== "U8" || codes.shape.length !== 2) throw refuse("has no codes of bytes in rows");
  const [rows, width] = codes.shape as [number, number];
  const columns = (width * 8) / bits;
  if (columns % block !== 0) throw refuse(`has rows of ${columns}, no multiple of its blocks of ${block}`);
  if (zero >= 2 ** bits) throw refuse(`has a zero of ${zero}, more than ${bits} bits hold`);
  const scales = numbersOf(name, "scales", { tensors, rows, blocks: columns / block, refuse });
  if (scales === undefined) throw refuse("has no scales");
  const offsets = numbersOf(name, "offsets", { tensors, rows, blocks: columns / block, refuse });
  const parts = [codes, ...partsOf(scales), ...(offsets ? partsOf(offsets) : [])];
  const [first, last] = [
    Math.min(...parts.map((part) => part.offset)),
    Math.max(...parts.map(({ offset, length }) => offset + length)),
  ];
  return {
    ...{ dtype: type, shape: [rows, columns], file: codes.file, offset: first, length: last - first },
    packed: { bits, block, zero, codes: partOf(codes), scales, ...(offsets && { offsets }) },
  };
}

/** Types that scales and offsets may have by themselves, and times those of super-blocks. */
const ALONE: readonly StoredType[] = ["F16", "BF16", "F32"];
const BELOW: readonly StoredType[] = ["U8", "I8"];

function numbersOf(
  name: string,
  kind: "scales" | "offsets",
  {
    tensors,
    rows,
    blocks,
    refuse,
  }: { tensors: Checkpoint["tensors"]; rows: number; blocks: number; refuse: (reason: string) => QeditError },
): BlockNumbers | undefined {
  const each = tensors.get(name + PART_NAMES[kind]);
  const superBlock = tensors.get(name + PART_NAMES[SUPER_OF[kind]]);
  if (each === undefined) {
    if (superBlock !== undefined) throw refuse(`has ${PART_NAMES[SUPER_OF[kind]]} of nothing`);
    return undefined;
  }
  const fits = (part: StoredTensor, types: readonly StoredType[], count: number) =>
    types.includes(part.dtype) && part.shape.join() === [rows, count].join();
  if (!fits(each, superBlock ? BELOW : ALONE, blocks))
    throw refuse(`has ${kind} ${each.dtype} [${each.shape.join(", ")}], which do not fit`);
  if (superBlock === undefined) return { each: partOf(each) };
  const count = superBlock.shape[1] ?? 0;
  if (count < 1 || blocks % count !== 0 || !fits(superBlock, ALONE, count))
    throw refuse(`has ${kind} of super-blocks ${superBlock.dtype} [${superBlock.shape.join(", ")}], which do not fit`);
  return { each: partOf(each), superBlock: partOf(superBlock) };
}

function partOf({ dtype, shape, offset, length }: StoredTensor): PackedPart {
  return { dtype, shape, offset, length };
}

/** The parts of the numbers of blocks. */
function partsOf({ each, superBlock }: BlockNumbers): readonly PackedPart[] {
  return superBlock ? [each, superBlock] : [each];
}

/** All parts of packed weights, with what each is called behind the name of the weight. */
export function namedParts({
  codes,
  scales,
  offsets,
}: PackedParts): readonly (readonly [suffix: string, part: PackedPart])[] {
  const named = (kind: "scales" | "offsets", numbers: BlockNumbers | undefined) =>
    numbers === undefined
      ? []
      : [
          [PART_NAMES[kind], numbers.each] as const,
          ...(numbers.superBlock ? [[PART_NAMES[SUPER_OF[kind]], numbers.superBlock] as const] : []),
        ];
  return [["", codes], ...named("scales", scales), ...named("offsets", offsets)];
}

function refusal(file: string, reason: string): QeditError {
  return new QeditError("QEDIT_E_CHECKPOINT", `Cannot read ${file}: ${reason}`, {
    hint: "Make it again from the file that it was made of",
  });
}
