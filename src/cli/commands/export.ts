// qedit export: a model in the form of other servers.
import { defineCommand } from "../command.js";

/** `qedit export triton`. */
export const exportCommand = defineCommand({
  examples: ["qedit export triton repository/ --model tiny"],
  options: {},
  commands: [
    {
      name: "triton",
      summary: "Write a model repository for NVIDIA Triton Inference Server: one request is one edit",
      load: async () => (await import("./export/triton.js")).triton,
    },
  ],
});
