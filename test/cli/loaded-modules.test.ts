// What a call loads before it does anything: the start of the command line is quick because help and lists load little.
import { existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { spawned, workFolder } from "./qedit.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/**
 * Calls, the most files that each opens, and the most bytes in them: those of today and a few more. A command that needs more than these imports at the
 * top of its file what `perform` should load.
 */
const CALLS: readonly (readonly [call: string, files: number, kilobytes: number])[] = [
  ["--version", 2, 10],
  ["--help", 4, 300],
  ["models", 6, 330],
  ["kafka", 6, 330],
  ["cache", 6, 330],
  ["run --help", 8, 330],
  ["plan --help", 8, 330],
  ["serve --help", 8, 330],
  ["models list", 8, 350],
];
/** Packages that the bundle holds parts of, where nearly every command needs them. */
const INSIDE = /^node_modules\/(commander|valibot)\//;
/** Layers that only work needs; of others, options need the names of what can be chosen. */
const OF_WORK = /^dist\/(engine|graph|checkpoint|artifacts|text)\//;

const folder = workFolder();

test.each(CALLS)(
  "qedit %s opens at most %i files of %i kB, and nothing that only work needs",
  async (call, most, kilobytes) => {
    const { scripts, modules } = await loaded(call.split(" "));
    expect(scripts).toContain("dist/bundle/main.js");
    expect(scripts.length, scripts.join("\n")).toBeLessThanOrEqual(most);
    const bytes = scripts.reduce((sum, script) => sum + statSync(join(ROOT, script)).size, 0);
    expect(bytes).toBeLessThanOrEqual(kilobytes * 1000);
    expect(modules).toContain("dist/cli/main.js");
    expect(modules.filter((module) => !module.startsWith("dist/") && !INSIDE.test(module))).toEqual([]);
    expect(modules.filter((module) => OF_WORK.test(module))).toEqual([]);
  },
);

// Node writes a report of coverage with the URL of every script that ran.
async function loaded(
  args: readonly string[],
): Promise<{ readonly scripts: readonly string[]; readonly modules: readonly string[] }> {
  const reports = mkdtempSync(folder.at("loaded-"));
  await spawned(args, { cwd: folder.path, env: { NODE_V8_COVERAGE: reports } });
  const scripts = readdirSync(reports)
    .flatMap((name) => (JSON.parse(readFileSync(join(reports, name), "utf8")) as { result: { url: string }[] }).result)
    .flatMap(({ url }) => (url.startsWith("file:") ? [relative(ROOT, fileURLToPath(url)).replaceAll(sep, "/")] : []))
    .filter((script) => script !== "bin/qedit.js");
  return { scripts, modules: scripts.flatMap(modulesOf) };
}

// The modules that the build put together in a file, by its source map; a file without one is a module itself.
function modulesOf(script: string): string[] {
  const map = join(ROOT, `${script}.map`);
  if (!existsSync(map)) return script.startsWith("dist/bundle/") ? [] : [script];
  const { sources } = JSON.parse(readFileSync(map, "utf8")) as { sources: string[] };
  return sources.map((source) => join(dirname(script), source).replaceAll(sep, "/"));
}
