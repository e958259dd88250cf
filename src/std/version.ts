// Which qedit this is.
import { readFileSync } from "node:fs";

/** The version of package.json. */
export function qeditVersion(): string {
  return (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string })
    .version;
}
