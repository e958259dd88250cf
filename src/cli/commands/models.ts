// qedit models: published models, model files on disk, and downloads.
import { defineCommand } from "../command.js";

/** `qedit models VERB`. */
export const models = defineCommand({
  examples: ["qedit models list", "qedit models pull --preset fast-4", "qedit models scan ~/ComfyUI"],
  options: {},
  commands: [
    {
      name: "list",
      summary: "List the published models, and what of them is on disk",
      load: async () => (await import("./models/list.js")).list,
    },
    {
      name: "show",
      summary: "Show a model: files, LoRAs, defaults and presets",
      load: async () => (await import("./models/show.js")).show,
    },
    {
      name: "pull",
      summary: "Download a model: resumes after any interruption, and checks the hashes",
      load: async () => (await import("./models/pull.js")).pull,
    },
    {
      name: "verify",
      summary: "Check model files: header, network, length and SHA-256",
      load: async () => (await import("./models/verify.js")).verify,
    },
    {
      name: "scan",
      summary: "Find model files, and say what each is; reads headers only",
      load: async () => (await import("./models/scan.js")).scan,
    },
    {
      name: "path",
      summary: "Print where qedit keeps models, or where the files of a model lie",
      load: async () => (await import("./models/path.js")).path,
    },
    {
      name: "quantize",
      summary: "Write a transformer or text encoder with its large matrices in 8 or 4 bits",
      load: async () => (await import("./models/quantize.js")).quantize,
    },
    {
      name: "repacked",
      summary: "List repacked GGUF weights in qedit's data folder; --rm removes them",
      load: async () => (await import("./models/repacked.js")).repacked,
    },
    {
      name: "rm",
      summary: "Remove files of a model that qedit downloaded; others stay",
      load: async () => (await import("./models/rm.js")).rm,
    },
  ],
});
