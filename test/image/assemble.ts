// Assembles src/image/resize/lanczos.wat; run by itself, it writes what src/image/resize/lanczos-module.ts holds: `npx tsx test/image/assemble.ts`.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import loadWabt from "wabt";

const SOURCE = fileURLToPath(new URL("../../src/image/resize/lanczos.wat", import.meta.url));
const MODULE = fileURLToPath(new URL("../../src/image/resize/lanczos-module.ts", import.meta.url));

/** The module in base64. */
export async function assembled(): Promise<string> {
  const wabt = await loadWabt();
  const module = wabt.parseWat("lanczos.wat", readFileSync(SOURCE, "utf8"), { simd: true });
  try {
    module.validate();
    return Buffer.from(module.toBinary({}).buffer).toString("base64");
  } finally {
    module.destroy();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lines = (await assembled()).match(/.{1,140}/g)!.map((line) => `  "${line}",`);
  writeFileSync(
    MODULE,
    [
      "// lanczos.wat, assembled by test/image/assemble.ts.",
      "",
      "/** The WebAssembly module in base64, in lines. */",
      "export const LANCZOS_MODULE: readonly string[] = [",
      ...lines,
      "];",
      "",
    ].join("\n"),
  );
}
