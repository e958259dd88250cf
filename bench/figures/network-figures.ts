// Networks of the published widths beside PyTorch float32: processor seconds of a run.
import { measureNetworks } from "../measured-networks.js";
import type { Figure, Part } from "./figure.js";

/** What is said of each network, and at most which part of PyTorch's time it should take. */
const RUNS: Readonly<Record<string, { readonly name: string; readonly goal?: number }>> = {
  "blocks-2": { name: "two blocks of the transformer, nothing left out, weights widened once" },
  "stored-blocks-2": { name: "two blocks of the transformer, weights widened at every step", goal: 1.05 },
  "vae-encode-512": { name: "VAE encoder, 512²", goal: 1 },
  "vae-decode-512": { name: "VAE decoder, 512²", goal: 1 },
  "vision-2": { name: "two blocks of the vision tower", goal: 0.9 },
  "language-2": { name: "two layers of the language model", goal: 0.9 },
};

/** Networks. */
export const NETWORK_RUNS: Part = {
  what: "networks beside PyTorch",
  async measure({ python, folder }) {
    const results = await measureNetworks(Object.keys(RUNS), {
      python: python ? { command: python } : undefined,
      folder,
    });
    return results.map(({ network, qedit, pytorch }): Figure => {
      const { name, goal } = RUNS[network]!;
      return {
        name,
        unit: "s",
        qedit: qedit!.processor,
        ...(pytorch && { peer: { name: "PyTorch", value: pytorch.processor } }),
        ...(goal !== undefined && { goal: { ratio: goal } }),
      };
    });
  },
};
