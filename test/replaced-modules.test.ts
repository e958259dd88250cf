// Which files replace modules: those have processes of their own, since the others of a process would get what is replaced, or have imported it before.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const HERE = fileURLToPath(new URL(".", import.meta.url));

test("files that replace modules are named *.mocked.test.ts, and no others", () => {
  const files = readdirSync(HERE, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".test.ts"));
  const replacing = files.filter((name) => /^\s*vi\.(do)?[mM]ock\(/m.test(readFileSync(HERE + name, "utf8")));
  expect(replacing.sort()).toEqual(files.filter((name) => name.endsWith(".mocked.test.ts")).sort());
  expect(replacing.length).toBeGreaterThan(0);
});
