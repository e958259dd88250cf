// qedit export: a model in the form of other servers.
import { defineCommand } from "../command.js";
import { triton } from "./export/triton.js";

/** `qedit export triton`. */
export const exportCommand = defineCommand({
  summary: "Write a model for another server",
  examples: ["qedit export triton repository/ --model tiny"],
  options: {},
  commands: { triton },
});
