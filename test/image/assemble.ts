// Assembles the WebAssembly of the package; run by itself, it writes the modules that the package holds: `npx tsx test/image/assemble.ts`.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import loadWabt from "wabt";

/** Paths in src/image, without what follows the name: NAME.wat is the source, NAME-module.ts holds what is assembled. */
export const SOURCES = ["resize/lanczos", "compare/drift"] as const;

/** The module in base64. */
async function assembled(source: (typeof SOURCES)[number]): Promise<string> {
  const wabt = await loadWabt();
  const module = wabt.parseWat(`${basename(source)}.wat`, readFileSync(pathOf(source, ".wat"), "utf8"), { simd: true });
  try {
    module.validate();
    return Buffer.from(module.toBinary({}).buffer).toString("base64");
  } finally {
    module.destroy();
  }
}

/** The text of NAME-module.ts. */
export async function moduleText(source: (typeof SOURCES)[number]): Promise<string> {
  const name = basename(source);
  const lines = (await assembled(source)).match(/.{1,140}/g)!.map((line) => `  "${line}",`);
  return [
    `// ${name}.wat, assembled by test/image/assemble.ts.`,
    "",
    "/** The WebAssembly module in base64, in lines. */",
    `export const ${name.toUpperCase()}_MODULE: readonly string[] = [`,
    ...lines,
    "];",
    "",
  ].join("\n");
}

/** The path of NAME with this ending. */
export function pathOf(source: (typeof SOURCES)[number], ending: ".wat" | "-module.ts"): string {
  return fileURLToPath(new URL(`../../src/image/${source}${ending}`, import.meta.url));
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const source of SOURCES) writeFileSync(pathOf(source, "-module.ts"), await moduleText(source));
