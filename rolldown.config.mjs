// node rolldown.config.mjs: puts the modules of the command line together, so that a command opens a few files, not a hundred: each takes time to
// find and to link. It calls rolldown itself, whose own command prints every file that it makes.
import { build } from "rolldown";

/** What every command loads: the bundle holds the parts of these that are used. Other packages stay in node_modules. */
const INSIDE = ["commander", "valibot"];

await build({
  input: "dist/cli/main.js",
  platform: "node",
  external: (id) => !/^[./]/.test(id) && !INSIDE.includes(id),
  preserveEntrySignatures: "allow-extension",
  checks: { ineffectiveDynamicImport: false },
  output: {
    dir: "dist/bundle",
    format: "esm",
    sourcemap: "hidden",
    chunkFileNames: "[name]-[hash].js",
    codeSplitting: {
      // Each holds the modules that it names and all that these import, but for what is in those before it.
      groups: [
        // What main.js imports at once: a Node.js that is too old for the rest must come so far as to say so.
        { name: "start", tags: ["$initial"], priority: 3 },
        { name: "commands", test: /\/dist\/cli\/(program|call|settings\/[\w-]+)\.js$/, priority: 2 },
        { name: "models", test: /\/dist\/cli\/commands\/models\/list\.js$/, priority: 1 },
        { name: "edits", test: /\/dist\/cli\/actions\/make-pictures\.js$/, priority: 0 },
      ],
    },
  },
});
