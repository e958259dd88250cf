// The README and the pages of docs/ as tests read them: their commands, flags, links and headings.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Root of the repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** A page of documentation. */
export interface Page {
  /** Path from the root: `docs/sizes.md`. */
  readonly name: string;
  readonly text: string;
  /** The commands of each fenced sh block, in order, without comments. */
  readonly blocks: readonly (readonly string[])[];
}

/** All pages. */
export function readPages(): readonly Page[] {
  const docs = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
  return ["README.md", ...docs.sort().map((name) => `docs/${name}`)].map((name) => {
    const text = readFileSync(join(ROOT, name), "utf8");
    return { name, text, blocks: fencedBlocks(text, "sh").map(commandsOf) };
  });
}

/** The contents of fenced blocks of a language. */
export function fencedBlocks(text: string, language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter((match) => match[1] === language)
    .map((match) => match[2]!);
}

/** Code within lines, outside of fenced blocks. */
export function inlineCode(text: string): string[] {
  return [...withoutBlocks(text).matchAll(/`([^`\n]+)`/g)].map((match) => match[1]!);
}

/** Targets of relative links and pictures: `docs/sizes.md`, `#drift`. */
export function relativeLinks(text: string): string[] {
  return [...withoutBlocks(text).matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1]!)
    .filter((target) => !/^[a-z]+:/.test(target));
}

/** The anchors of a page's headings, as GitHub makes them. */
export function anchorsOf(text: string): string[] {
  return [...withoutBlocks(text).matchAll(/^#+ (.+)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

/** Long flags of a text: `--cfg-norm`. */
export function flagsIn(text: string): string[] {
  // Behind `npm run … --` stand the flags of scripts, behind docker and kubectl their own.
  return [
    ...text.replace(/\bnpm run \S+ -- [^`\n]*|\b(docker|kubectl) [^`\n]*/g, "").matchAll(/(?<![\w-])--[a-z][a-z-]*/g),
  ].map((match) => match[0]);
}

function withoutBlocks(text: string): string {
  return text.replace(/^```.*?^```$/gms, "");
}

function commandsOf(block: string): string[] {
  return block
    .split("\n")
    .map((line) => line.replace(/\s+# .*$/, "").trim())
    .filter((line) => line !== "");
}
