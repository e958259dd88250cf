// Where the pictures of a prompt stand among its tokens, checked against the embeddings.
import type { Tensor } from "../std/tensor.js";

/** The embeddings that positions belong to, by the names of both. */
const EMBEDS_OF: Readonly<Record<string, string>> = {
  image_positions: "prompt_embeds",
  negative_image_positions: "negative_prompt_embeds",
};

/** What is wrong with the positions of pictures among tensors; undefined when nothing is, or when there are none. */
export function positionsFault(tensors: Readonly<Record<string, Tensor>>): string | undefined {
  for (const [name, embeds] of Object.entries(EMBEDS_OF)) {
    const positions = tensors[name];
    if (positions === undefined) continue;
    const tokens = tensors[embeds]?.shape[1];
    if (tokens === undefined) return `it has "${name}" without "${embeds}"`;
    let before = 0;
    for (const position of positions.data as Int32Array) {
      if (position < before || position > tokens)
        return `tensor "${name}" wanted rising numbers up to ${tokens}, found ${[...(positions.data as Int32Array)].slice(0, 20).join(", ")}`;
      before = position;
    }
  }
  const [own, negative] = Object.keys(EMBEDS_OF).map((name) => tensors[name]?.shape[0]);
  if (tensors["negative_prompt_embeds"] === undefined || own === negative) return undefined;
  return `its prompts are about ${own ?? "no"} and ${negative ?? "no"} places of pictures`;
}
