// The WebAssembly in the package is assembled from the sources beside it.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { moduleText, pathOf, SOURCES } from "./assemble.js";

test.each(SOURCES)("%s-module.ts is the assembled source: npx tsx test/image/assemble.ts", async (source) => {
  expect(readFileSync(pathOf(source, "-module.ts"), "utf8")).toBe(await moduleText(source));
});
