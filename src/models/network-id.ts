// The networks of an edit: the ids that code and files join on, and the names that messages show.

/** Each network's name in messages, in the order in which an edit opens them. */
export const NETWORK_NAMES = {
  "vae-encoder": "VAE encoder",
  "vision-tower": "vision tower",
  "language-model": "language model",
  modulation: "modulation",
  transformer: "transformer",
  "vae-decoder": "VAE decoder",
} as const;

/** Id of a network. */
export type NetworkId = keyof typeof NETWORK_NAMES;

/** The ids, in the order in which an edit opens them. */
export const NETWORK_IDS = Object.keys(NETWORK_NAMES) as readonly NetworkId[];

/** The name of a network in messages: `VAE encoder`; a text that is no id stays as it is. */
export function networkName(id: string): string {
  return Object.hasOwn(NETWORK_NAMES, id) ? NETWORK_NAMES[id as NetworkId] : id;
}
