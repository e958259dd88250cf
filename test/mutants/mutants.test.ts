import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { MUTANTS } from "./mutants.js";

const ROOT = new URL("../../", import.meta.url);

test.each(MUTANTS)("$bug: the text that it changes stands once in $file, and its test is there", (mutant) => {
  const source = readFileSync(new URL(mutant.file, ROOT), "utf8");
  expect(source.split(mutant.from).length - 1).toBe(1);
  expect(source.replace(mutant.from, () => mutant.to)).not.toBe(source);
  expect(existsSync(new URL(mutant.test, ROOT))).toBe(true);
});
