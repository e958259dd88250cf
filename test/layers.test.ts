// The import rule of the design: imports go down only, one owner per package, and no file with two reasons to change.
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

/** From the top; folders of one row do not import each other. */
const ROWS = [
  ["cli"],
  ["server"],
  ["export"],
  ["edit"],
  ["stages", "catalog"],
  ["models", "sampling", "engine", "artifacts", "kserve", "text", "image"],
  ["checkpoint"],
  ["graph"],
  ["std"],
];

/** Packages of package.json, and the one folder that may import each. */
const OWNERS: Readonly<Record<string, string | readonly string[]>> = {
  "onnxruntime-node": "engine",
  sharp: "image",
  "libheif-js": "image",
  "@jsquash/jxl": "image",
  commander: "cli",
  ora: "cli",
  "cli-progress": "cli",
  tinyglobby: "cli",
  protobufjs: ["graph", "export"],
  "@bomb.sh/tab": "cli",
  tar: "catalog",
  undici: "catalog",
  yauzl: "catalog",
  yaml: "catalog",
  // What crosses a boundary is checked where it is crossed.
  valibot: ["checkpoint", "artifacts", "catalog", "edit", "server", "cli"],
  "@valibot/to-json-schema": "edit",
  hono: "server",
  "@hono/node-server": "server",
  pino: "server",
  "prom-client": "server",
  "@grpc/grpc-js": ["kserve", "server"],
  "@grpc/proto-loader": ["kserve", "server"],
  "grpc-health-check": "server",
  "@modelcontextprotocol/sdk": "server",
  "@opentelemetry/api": "server",
  "@platformatic/kafka": "server",
  avsc: "server",
  "@aws-sdk/client-s3": "server",
};

/** Folders that are pure: no files, no sessions, no threads. */
const PURE = ["graph", "models"];

const LONGEST_FILE = 350;

/** Fewer than these mean that the search below has gone blind. */
const FEWEST_FILES = 60;
const FEWEST_IMPORTS = 250;

interface Import {
  readonly file: string;
  readonly folder: string;
  readonly target: string;
  /** Whether it is made when the file is loaded, or only when it is called for. */
  readonly isStatic: boolean;
}

const src = fileURLToPath(new URL("../src", import.meta.url));
const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
const imports = files.flatMap(importsOf);
const inside = imports.filter(({ target }) => target.startsWith("."));
const outside = imports.filter(({ target }) => !target.startsWith("."));

// Static, dynamic and type imports, re-exports, and modules named by URL, as a worker's is.
function importsOf(file: string): Import[] {
  const text = readFileSync(join(src, file), "utf8");
  const found = (pattern: RegExp, isStatic: boolean) =>
    [...text.matchAll(pattern)].map((match) => ({
      file,
      folder: folderOf(join(src, file)),
      target: match[1]!,
      isStatic,
    }));
  return [
    ...found(/^(?:import|export)\b[^;"']*?\bfrom\s*"([^"]+)"/gm, true),
    ...found(/^import\s*"([^"]+)"/gm, true),
    ...found(/\bimport\(\s*"([^"]+)"/g, false),
    ...found(/new URL\("([^"]+\.js)", import\.meta\.url\)/g, false),
  ];
}

function folderOf(path: string): string {
  const [first, ...rest] = relative(src, path).split(sep);
  return rest.length === 0 ? "." : first!;
}

function rowOf(folder: string): number {
  return ROWS.findIndex((row) => row.includes(folder));
}

function goesDown({ file, folder, target }: Import): boolean {
  const other = folderOf(resolve(src, dirname(file), target));
  return other === folder || rowOf(other) > rowOf(folder);
}

// Strongly connected components of more than one file (Tarjan 1972), the files of each sorted.
function cyclesOf(targets: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const [order, low] = [new Map<string, number>(), new Map<string, number>()];
  const [stack, cycles]: [string[], string[][]] = [[], []];
  const visit = (file: string): void => {
    if (order.has(file)) return;
    order.set(file, order.size);
    low.set(file, order.get(file)!);
    stack.push(file);
    for (const target of targets.get(file) ?? []) {
      visit(target);
      if (stack.includes(target)) low.set(file, Math.min(low.get(file)!, low.get(target)!));
    }
    if (low.get(file) !== order.get(file)) return;
    const component = stack.splice(stack.indexOf(file));
    if (component.length > 1) cycles.push(component.sort());
  };
  for (const file of targets.keys()) visit(file);
  return cycles;
}

function packageOf(target: string): string {
  return target
    .split("/")
    .slice(0, target.startsWith("@") ? 2 : 1)
    .join("/");
}

function lines(list: readonly Import[]): string[] {
  return list.map(({ file, target }) => `${file} imports ${target}`);
}

test("the search sees the files and imports of src", () => {
  expect(files.length).toBeGreaterThan(FEWEST_FILES);
  expect(imports.length).toBeGreaterThan(FEWEST_IMPORTS);
});

test("every import is seen: those of each file are as many as its lines with `from`", () => {
  const missed = files.filter((file) => {
    const statements = readFileSync(join(src, file), "utf8").match(/^(?:import\b.*|export\b.*|\}) from "/gm) ?? [];
    return importsOf(file).length < statements.length;
  });
  expect(missed).toEqual([]);
});

test("every folder of src has its row", () => {
  const folders = new Set(files.map((file) => folderOf(join(src, file))));
  expect([...folders].sort()).toEqual(ROWS.flat().sort());
});

test("imports go down only", () => {
  expect(lines(inside.filter((each) => !goesDown(each)))).toEqual([]);
});

test("no import cycles, imports of types included", () => {
  const targets = new Map(files.map((file) => [file, new Set<string>()]));
  for (const { file, target, isStatic } of inside) {
    const imported = relative(src, resolve(src, dirname(file), target)).replace(/\.js$/, ".ts");
    if (isStatic) targets.get(file)!.add(imported);
  }
  expect(cyclesOf(targets)).toEqual([]);
});

test("no text below the doors spells a flag: each door spells parameters in its own way", () => {
  // Whole commands of qedit may stand in hints; the others are of nvidia-smi, of containers and of Triton.
  const command = /qedit [a-zA-Z][\w ]*[^`"']*/g;
  const others = /--(gpus (all|'")|query-gpu|format=csv|rm\b|model-|exit-on-error|http-max-input-size|load-model)/g;
  const spelling = files
    .filter((file) => !file.startsWith(`cli${sep}`))
    .flatMap((file) =>
      readFileSync(join(src, file), "utf8")
        .split("\n")
        .filter((line) => !/^\s*(\/\/|\/?\*)/.test(line))
        .filter((line) => /(?<![\w[])--[a-z]/.test(line.replace(command, "").replace(others, "")))
        .map((line) => `${file}: ${line.trim()}`),
    );
  expect(spelling).toEqual([]);
});

test("no two files have one name", () => {
  // A command's file has the command's name.
  const names = files.filter((file) => !file.startsWith(join("cli", "commands", sep))).map((file) => basename(file));
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});

test("stages meet in artifacts: no stage imports another", () => {
  const stages = ["encode-image", "encode-prompt", "sample", "decode"];
  const isStage = (target: string) => stages.some((stage) => target === `./${stage}.js`);
  expect(lines(inside.filter(({ folder, target }) => folder === "stages" && isStage(target)))).toEqual([]);
});

describe("packages", () => {
  const packages = outside.filter(({ target }) => !target.startsWith("node:"));

  test("each has one owner", () => {
    expect(
      lines(packages.filter(({ folder, target }) => ![OWNERS[packageOf(target)]].flat().includes(folder))),
    ).toEqual([]);
  });

  test("each one of package.json is in use", () => {
    const { dependencies, optionalDependencies, peerDependencies } = JSON.parse(
      readFileSync(join(src, "../package.json"), "utf8"),
    ) as {
      dependencies: Record<string, string>;
      optionalDependencies: Record<string, string>;
      peerDependencies: Record<string, string>;
    };
    expect([...new Set(packages.map(({ target }) => packageOf(target)))].sort()).toEqual(
      Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }).sort(),
    );
  });

  test.each(["onnxruntime-node", "sharp"])("%s, a native one, is loaded only when it is used", (name) => {
    const statement = new RegExp(`^import (?!type\\b)[^;]*"${name}"`, "m");
    expect(files.filter((file) => statement.test(readFileSync(join(src, file), "utf8")))).toEqual([]);
  });
});

test.each(PURE)("%s imports no module of Node's", (pure) => {
  expect(inside.some(({ folder }) => folder === pure)).toBe(true);
  expect(lines(outside.filter(({ folder, target }) => folder === pure && target.startsWith("node:")))).toEqual([]);
});

test(`no file is longer than ${LONGEST_FILE} lines`, () => {
  const long = files.filter(
    (file) => readFileSync(join(src, file), "utf8").trimEnd().split("\n").length > LONGEST_FILE,
  );
  expect(long).toEqual([]);
});
