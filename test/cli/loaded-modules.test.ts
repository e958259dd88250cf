// What a call loads before it does anything: the start of the command line is quick because help and lists load little.
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { spawned, workFolder } from "./qedit.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Packages that help needs: the parser of the command line, and the kinds of values that its options take. */
const PARSER = ["commander"];
const OPTIONS = [...PARSER, "valibot"];

/**
 * Calls, the packages that each loads, and the most modules of qedit's own: those of today and a few more. A command that needs more than these imports at
 * the top of its file what `perform` should load.
 */
const CALLS: readonly (readonly [call: string, packages: readonly string[], most: number])[] = [
  ["--version", [], 4],
  ["--help", PARSER, 9],
  ["models", PARSER, 11],
  ["kafka", PARSER, 11],
  ["cache", PARSER, 11],
  ["run --help", OPTIONS, 30],
  ["plan --help", OPTIONS, 32],
  ["serve --help", OPTIONS, 29],
  ["models list", OPTIONS, 45],
];

const folder = workFolder();

test.each(CALLS)("qedit %s loads no package but %j, and at most %i modules", async (call, packages, most) => {
  const { own, foreign } = await loaded(call.split(" "));
  expect(foreign).toEqual([...packages].sort());
  expect(own).toContain(join("dist", "cli", "main.js"));
  expect(own.length, own.join("\n")).toBeLessThanOrEqual(most);
});

// Node writes a report of coverage with the URL of every script that ran.
async function loaded(args: readonly string[]): Promise<{ own: readonly string[]; foreign: readonly string[] }> {
  const reports = mkdtempSync(folder.at("loaded-"));
  await spawned(args, { cwd: folder.path, env: { NODE_V8_COVERAGE: reports } });
  const scripts = readdirSync(reports)
    .flatMap((name) => (JSON.parse(readFileSync(join(reports, name), "utf8")) as { result: { url: string }[] }).result)
    .flatMap(({ url }) => (url.startsWith("file:") ? [fileURLToPath(url).slice(ROOT.length)] : []));
  const [first, inside] = ["node_modules", "dist"].map((name) =>
    scripts.filter((script) => script.startsWith(`${name}${sep}`)),
  ) as [string[], string[]];
  return { own: inside.flatMap(modulesOf), foreign: [...new Set(first.map((script) => packageOf(script)))].sort() };
}

// The modules that the build put together in a file, by its source map. All of them are needed where the file is: the build splits by what reaches them.
function modulesOf(script: string): string[] {
  const { sources } = JSON.parse(readFileSync(join(ROOT, `${script}.map`), "utf8")) as { sources: string[] };
  return sources.map((source) => join(dirname(script), source));
}

function packageOf(script: string): string {
  const [, scope, name] = script.split(sep) as [string, string, string];
  return scope.startsWith("@") ? `${scope}/${name}` : scope;
}
