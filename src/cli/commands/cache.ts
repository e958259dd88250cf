// qedit cache: the cached results of stages.
import { defineCommand } from "../command.js";

/** `qedit cache VERB`. */
export const cache = defineCommand({
  examples: ["qedit cache list", "qedit cache clear", "qedit cache path"],
  options: {},
  commands: [
    {
      name: "list",
      summary: "List the kept results, the last used first",
      load: async () => (await import("./cache/kept-results.js")).list,
    },
    {
      name: "clear",
      summary: "Remove all kept results",
      load: async () => (await import("./cache/kept-results.js")).clear,
    },
    {
      name: "path",
      summary: "Print the folder of the kept results",
      load: async () => (await import("./cache/kept-results.js")).path,
    },
  ],
});
