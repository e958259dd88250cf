// What installing qedit does on a machine.
import { readdirSync, readFileSync } from "node:fs";
import { join, sep } from "node:path";
import { expect, test } from "vitest";

interface Lock {
  readonly packages: Readonly<Record<string, Package>>;
}

interface Package {
  readonly version?: string;
  readonly license?: string;
  readonly inBundle?: boolean;
  readonly hasInstallScript?: boolean;
}

const { packages } = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8")) as Lock;

// onnxruntime-node's would download CUDA. npm runs the scripts of those packages alone that the lock file marks.
test("no dependency runs a script of its own when it is installed", () => {
  const marked = Object.entries(packages).flatMap(([path, { hasInstallScript }]) => (hasInstallScript ? [path] : []));
  expect(packages["node_modules/onnxruntime-node"]?.version).toBe("1.29.0");
  expect(marked).toEqual([]);
});

test("what is packed has every file of the server's page, built", () => {
  const root = new URL("..", import.meta.url);
  const { files } = JSON.parse(readFileSync(new URL("package.json", root), "utf8")) as { files: readonly string[] };
  expect(files).toContain("dist");
  const sources = readdirSync(new URL("src/server/http/page/", root));
  expect(sources).toContain("index.html");
  expect(readdirSync(new URL("dist/server/http/page/", root)).sort()).toEqual(
    sources.map((name) => name.replace(/\.ts$/, ".js")).sort(),
  );
});

// The build puts modules together in dist/bundle: where one of them lies says nothing there. Packages are found from anywhere.
test("the package's own files are found by one module", () => {
  const src = new URL("../src/", import.meta.url);
  const asking = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((name) => {
    if (!name.endsWith(".ts")) return false;
    const text = readFileSync(new URL(name.replaceAll(sep, "/"), src), "utf8");
    return text.replaceAll("createRequire(import.meta.url)", "").includes("import.meta");
  });
  expect(asking).toEqual([join("std", "package-files.ts")]);
});

test("every package inside of the package has a line with its licence", () => {
  const notices = readFileSync(new URL("../THIRD_PARTY_NOTICES", import.meta.url), "utf8");
  const inside = Object.entries(packages).filter(([, { inBundle }]) => inBundle);
  const lines = inside.map(
    ([path, { version, license }]) => `  ${path.split("node_modules/").at(-1)} ${version}: ${license}\n`,
  );
  expect(lines.length).toBeGreaterThan(40);
  expect(lines.filter((line) => !notices.includes(line))).toEqual([]);
});

test("every package that the bundle holds parts of has its copyright there, and no other is in it", () => {
  const root = new URL("../", import.meta.url);
  const bundle = new URL("dist/bundle/", root);
  const sources = readdirSync(bundle)
    .filter((name) => name.endsWith(".map"))
    .flatMap((name) => (JSON.parse(readFileSync(new URL(name, bundle), "utf8")) as { sources: string[] }).sources);
  const inside = new Set(sources.flatMap((source) => /.*node_modules\/((@[^/]+\/)?[^/]+)/.exec(source)?.[1] ?? []));
  expect([...inside].sort()).toEqual(["commander", "valibot"]);
  const notices = readFileSync(new URL("THIRD_PARTY_NOTICES", root), "utf8");
  for (const name of inside)
    expect(notices).toContain(`  ${name} ${packages[`node_modules/${name}`]!.version}, Copyright (c)`);
});
