// What installing qedit does on a machine.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

interface Lock {
  readonly packages: Readonly<Record<string, { readonly version?: string; readonly hasInstallScript?: boolean }>>;
}

const { packages } = JSON.parse(readFileSync(new URL("../package-lock.json", import.meta.url), "utf8")) as Lock;

// onnxruntime-node's would download CUDA. npm runs the scripts of those packages alone that the lock file marks.
test("no dependency runs a script of its own when it is installed", () => {
  const marked = Object.entries(packages).flatMap(([path, { hasInstallScript }]) => (hasInstallScript ? [path] : []));
  expect(packages["node_modules/onnxruntime-node"]?.version).toBe("1.29.0");
  expect(marked).toEqual([]);
});
