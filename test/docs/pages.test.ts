// The documentation against the source: flags, error codes, links, paths and code that it names exist.
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, test } from "vitest";
import { allCommands } from "../../src/cli/commands.js";
import { flagsOf, outputOptions } from "../../src/cli/settings/options.js";
import { ERRORS } from "../../src/edit/error-table.js";
import { ERROR_CODES } from "../../src/std/errors.js";
import { anchorsOf, fencedBlocks, flagsIn, inlineCode, ROOT, readPages, relativeLinks } from "./pages.js";

/** Of commander, on every command. */
const HELP = ["--help", "--version"];

const MOST_README_LINES = 120;
const MOST_FILES_OF_AN_EDIT = 20;
const MOST_PICTURE_BYTES = 150_000;

const pages = readPages();
const page = (name: string) => pages.find((each) => each.name === name)!;

const flagsByCommand = await readFlags();

async function readFlags(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
  const flags = new Map<string, ReadonlySet<string>>();
  for (const [name, { options }] of await allCommands()) {
    const longs = Object.entries({ ...options, ...outputOptions }).flatMap(([key, each]) => flagsOf(key, each).longs);
    flags.set(name, new Set([...longs, ...HELP]));
  }
  return flags;
}

test(`the README has at most ${MOST_README_LINES} lines`, () => {
  expect(page("README.md").text.trimEnd().split("\n").length).toBeLessThanOrEqual(MOST_README_LINES);
});

test("every flag that the documentation names exists", () => {
  const known = new Set([...flagsByCommand.values()].flatMap((flags) => [...flags]));
  const unknown = pages.flatMap(({ name, text }) =>
    flagsIn(text).flatMap((flag) => (known.has(flag) ? [] : [`${name}: ${flag}`])),
  );
  expect(unknown).toEqual([]);
});

test("commands and code within lines give each command flags of its own", () => {
  const typed = pages.flatMap(({ blocks, text }) => [...blocks.flat(), ...inlineCode(text)]);
  const calls = typed
    .filter((line) => !/^(docker|kubectl) /.test(line))
    .flatMap((line) => line.split(/\||&&/))
    .flatMap((call) => [...call.matchAll(/\bqedit ([a-z-]+)(?: ([a-z]+))?(?: ([a-z]+))?\b(.*)/g)]);
  const wrong = calls.flatMap(([call, name, second, third, rest]) => {
    const flags =
      flagsByCommand.get(`${name} ${second} ${third}`) ??
      flagsByCommand.get(`${name} ${second}`) ??
      flagsByCommand.get(name!);
    if (flags === undefined) return [`${call}: no such command`];
    return flagsIn(rest!).flatMap((flag) => (flags.has(flag) ? [] : [`${call}: ${flag}`]));
  });
  expect(calls.length).toBeGreaterThan(0);
  expect(wrong).toEqual([]);
});

test("every error code stands in docs/scripting.md with its exit code", () => {
  const rows = page("docs/scripting.md")
    .text.split("\n")
    .filter((line) => line.startsWith("| `QEDIT_E_"));
  const listed = rows.map((row) => /^\| `(\w+)`\s+\| (\d+)\s+\|/.exec(row)!.slice(1));
  expect(listed).toEqual(ERROR_CODES.map((code) => [code, String(ERRORS[code].exit)]));
});

test("relative links lead to files and headings", () => {
  const broken = pages.flatMap(({ name, text }) =>
    relativeLinks(text).flatMap((target) => {
      const [path, anchor] = target.split("#") as [string, string | undefined];
      const file = path === "" ? name : relative(ROOT, join(ROOT, dirname(name), path));
      if (!existsSync(join(ROOT, file))) return [`${name}: ${target}`];
      if (anchor === undefined) return [];
      return anchorsOf(readFileSync(join(ROOT, file), "utf8")).includes(anchor) ? [] : [`${name}: ${target}`];
    }),
  );
  expect(broken).toEqual([]);
});

test("every page of docs is linked from the README", () => {
  const linked = relativeLinks(page("README.md").text).map((target) => target.split("#")[0]);
  expect(pages.map(({ name }) => name).filter((name) => name !== "README.md" && !linked.includes(name))).toEqual([]);
});

test("paths of the repository that the documentation names exist", () => {
  const named = pages.flatMap(({ name, text }) =>
    inlineCode(text)
      .filter((code) => /^(src|test|fixtures|bench|bin|\.ci)\/[\w./-]*$/.test(code))
      .map((path) => [name, path] as const),
  );
  expect(named.length).toBeGreaterThan(0);
  expect(named.filter(([, path]) => !existsSync(join(ROOT, path)))).toEqual([]);
});

test("code that the documentation quotes is in the source", () => {
  const blocks = readFileSync(join(ROOT, "src/models/qwen-image/dual-stream-blocks.ts"), "utf8");
  const quoted = pages.flatMap(({ text }) => fencedBlocks(text, "ts").flatMap((block) => block.trim().split("\n")));
  expect(quoted.filter((line) => !blocks.includes(line.trim()))).toEqual([]);
});

test(`the path of an edit enters at most ${MOST_FILES_OF_AN_EDIT} files, each once`, () => {
  const rows = [...page("docs/architecture.md").text.matchAll(/^\| \d+\s*\| `([^`]+)`/gm)].map((match) => match[1]!);
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.length).toBeLessThanOrEqual(MOST_FILES_OF_AN_EDIT);
  expect(new Set(rows).size).toBe(rows.length);
});

test(`pictures of docs take at most ${MOST_PICTURE_BYTES} bytes each`, () => {
  const pictures = pages.flatMap(({ text }) => relativeLinks(text)).filter((target) => target.includes("docs/images/"));
  expect(pictures.length).toBeGreaterThan(0);
  for (const picture of pictures) expect(statSync(join(ROOT, picture)).size).toBeLessThanOrEqual(MOST_PICTURE_BYTES);
});
