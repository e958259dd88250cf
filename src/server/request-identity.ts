// What identifies a request: the names and hashes of its pictures, its parameters, and whether it has previews.
import { type EditRequest, type NamedBytes, typedValue } from "../edit/request/edit-request.js";
import type { EditTensors } from "../edit/tensors/edit-tensors.js";
import { fileHash } from "../std/file-hash.js";
import type { JobInput } from "./job-types.js";

/** A picture's name and the SHA-256 of its file. */
export async function inputOf({ name, bytes }: NamedBytes): Promise<JobInput> {
  return { name, sha256: await fileHash(bytes) };
}

/** Bytes of the pictures of a request. */
export function bytesOf({ pictures, mask }: EditRequest): number {
  return [...pictures, ...(mask ? [mask] : [])].reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** Bytes of the tensors of an edit. */
export function bytesOfTensors({ pictures, patches, noise }: EditTensors): number {
  const sent = [...pictures.map(({ image }) => image), ...patches.map(({ pixelValues }) => pixelValues), noise];
  return sent.reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** Equal for requests that ask for the same. */
export async function digestOf(
  { pictures, mask, parameters }: EditRequest,
  { hasPreviews = false }: { readonly hasPreviews?: boolean },
): Promise<string> {
  const inputs = await Promise.all(pictures.map(inputOf));
  return digestOfParts({ inputs, mask: mask && (await inputOf(mask)), parameters, hasPreviews });
}

/** The same, of a request whose pictures are known by their hashes. */
export function digestOfParts({
  inputs,
  mask,
  parameters,
  hasPreviews,
}: {
  readonly inputs: readonly JobInput[];
  readonly mask?: JobInput | undefined;
  readonly parameters: EditRequest["parameters"];
  readonly hasPreviews: boolean;
}): string {
  // JSON and forms write the same values in other ways.
  const typed = Object.entries(parameters).map(([name, value]) => [name, typedValue(name, value)] as const);
  const sorted = typed.sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([inputs, mask ?? null, sorted, hasPreviews], (_, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
}
