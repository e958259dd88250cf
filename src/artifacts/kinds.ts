// The kinds of artifacts, their versions, and the tensors of each.

/** A fixed length, or the name of a free one; `channels` and `hidden` must be the same in all tensors of a file. */
type Dim = number | "channels" | "height" | "width" | "tokens" | "hidden" | "images";

const SHARED: readonly Dim[] = ["channels", "hidden"];

const LATENT: readonly Dim[] = [1, "channels", "height", "width"];
const EMBEDS: readonly Dim[] = [1, "tokens", "hidden"];

/** Element types of artifacts. */
export type ArtifactTensorType = "float32" | "int32";

interface TensorRule {
  readonly name: string;
  /** float32 unless given. */
  readonly type?: ArtifactTensorType;
  readonly shape: readonly Dim[];
  /** Numbered tensors are called `name.0`, `name.1`, …, from none upwards. */
  readonly count: "one" | "optional" | "numbered";
}

interface KindRule {
  /** Raised when the meaning of a tensor or of the metadata changes. */
  readonly version: number;
  /** The command that writes such a file, for hints. */
  readonly command: string;
  readonly tensors: readonly TensorRule[];
}

/**
 * The kinds of artifacts: `latents` of encode-image and `samples` of sample in latent cells of 8x8 pixels, not normalised, as
 * ComfyUI keeps them; `cond` of encode-prompt in tokens of the text encoder's hidden size, and where
 * the transformer does not see image tokens, with the number of tokens before each picture.
 */
export const KINDS = {
  latents: {
    version: 1,
    command: "qedit encode-image … -o latents.safetensors",
    tensors: [
      { name: "latent", shape: LATENT, count: "one" },
      { name: "reference_latents", shape: LATENT, count: "numbered" },
    ],
  },
  cond: {
    version: 1,
    command: "qedit encode-prompt … -o cond.safetensors",
    tensors: [
      { name: "prompt_embeds", shape: EMBEDS, count: "one" },
      { name: "negative_prompt_embeds", shape: EMBEDS, count: "optional" },
      { name: "image_positions", type: "int32", shape: ["images"], count: "optional" },
      { name: "negative_image_positions", type: "int32", shape: ["images"], count: "optional" },
    ],
  },
  samples: {
    version: 1,
    command: "qedit sample … -o samples.safetensors",
    tensors: [{ name: "latent_tensor", shape: LATENT, count: "one" }],
  },
} as const satisfies Readonly<Record<string, KindRule>>;

/** Name of a kind of artifact. */
export type ArtifactKind = keyof typeof KINDS;

/** What is wrong with the tensors of an artifact of this kind, given their shapes by name; undefined when nothing is. */
export function tensorFault(kind: ArtifactKind, shapes: ReadonlyMap<string, readonly number[]>): string | undefined {
  const left = new Map(shapes);
  const shared = new Map<Dim, number>();
  for (const rule of KINDS[kind].tensors as readonly TensorRule[]) {
    const names = namesOf(rule, shapes);
    for (const name of names) {
      const shape = left.get(name);
      if (shape === undefined) return `it lacks the tensor "${name}"`;
      left.delete(name);
      const wanted = rule.shape.map((dim) => shared.get(dim) ?? dim);
      if (!fits(shape, wanted)) return `tensor "${name}" wanted [${wanted.join(", ")}], found [${shape.join(", ")}]`;
      rule.shape.forEach((dim, axis) => {
        if (SHARED.includes(dim)) shared.set(dim, shape[axis]!);
      });
    }
  }
  const [unknown] = left.keys();
  return unknown === undefined ? undefined : `it holds the unknown tensor "${unknown}"`;
}

/** The element type of a tensor of an artifact. */
export function artifactTensorType(kind: ArtifactKind, tensor: string): ArtifactTensorType {
  const rules: readonly TensorRule[] = KINDS[kind].tensors;
  return rules.find(({ name }) => name === tensor)?.type ?? "float32";
}

/** The names that must be there. Numbers start at 0 without a gap, so the count gives the names. */
function namesOf({ name, count }: TensorRule, shapes: ReadonlyMap<string, unknown>): string[] {
  if (count === "one") return [name];
  if (count === "optional") return shapes.has(name) ? [name] : [];
  const numbered = [...shapes.keys()].filter((key) => key.startsWith(`${name}.`));
  return numbered.map((_, i) => `${name}.${i}`);
}

function fits(shape: readonly number[], wanted: readonly Dim[]): boolean {
  return (
    shape.length === wanted.length &&
    // There may be no images.
    shape.every((dim, i) => (typeof wanted[i] === "number" ? dim === wanted[i] : dim > 0 || wanted[i] === "images"))
  );
}
