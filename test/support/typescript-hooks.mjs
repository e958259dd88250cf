// Module hooks: the .js that an import of TypeScript names is the .ts beside it, and a .ts file is read without its types.
// https://nodejs.org/api/module.html#customization-hooks
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** What esbuild made of a file, by a hash of the file: each worker thread of a test would start esbuild again. */
const CACHE = fileURLToPath(new URL("../../node_modules/.cache/qedit-typescript", import.meta.url));

const OPTIONS = { loader: "ts", format: "esm", target: "node20", sourcemap: "inline" };

export async function resolve(specifier, context, next) {
  if (specifier.startsWith(".") && specifier.endsWith(".js") && context.parentURL?.endsWith(".ts")) {
    const source = new URL(specifier.replace(/\.js$/, ".ts"), context.parentURL);
    if (existsSync(source)) return { url: source.href, format: "module", shortCircuit: true };
  }
  return next(specifier, context);
}

export async function load(url, context, next) {
  if (!url.startsWith("file:") || !url.endsWith(".ts")) return next(url, context);
  const file = fileURLToPath(url);
  return { format: "module", source: await withoutTypes(file, readFileSync(file, "utf8")), shortCircuit: true };
}

async function withoutTypes(file, source) {
  const key = createHash("sha256")
    .update(JSON.stringify([OPTIONS, file, source]))
    .digest("hex");
  const kept = `${CACHE}/${key}.js`;
  if (existsSync(kept)) return readFileSync(kept, "utf8");
  const { transform } = await import("esbuild");
  const { code } = await transform(source, { ...OPTIONS, sourcefile: file });
  mkdirSync(CACHE, { recursive: true });
  // Threads and processes write at the same time.
  const temporary = `${kept}.${process.pid}.${performance.now()}`;
  writeFileSync(temporary, code);
  renameSync(temporary, kept);
  return code;
}
