// The versions of Node.js that qedit runs on.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PACKAGE_ROOT } from "./package-files.js";

/** The oldest Node.js that qedit runs on, as package.json names it. */
export function oldestNode(): string {
  const { engines } = JSON.parse(readFileSync(join(PACKAGE_ROOT, "package.json"), "utf8")) as {
    engines: { node: string };
  };
  return engines.node.replace(/^\D+/, "");
}

/** Whether this Node.js is at least the oldest one. */
export function isNodeNewEnough(): boolean {
  return process.versions.node.localeCompare(oldestNode(), "en", { numeric: true }) >= 0;
}
