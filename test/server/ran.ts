// The picture of the same edit by the command line.
import { readFileSync } from "node:fs";
import { spawned } from "../cli/qedit.js";
import type { TemporaryFolder } from "../support/folder.js";

/** The bytes that `qedit run` writes. */
export async function ran(
  pictures: readonly string[],
  fields: Readonly<Record<string, string>>,
  folder: TemporaryFolder,
): Promise<Buffer> {
  const flags = Object.entries(fields).flatMap(([name, value]) =>
    value === "true" ? [`--${name.replaceAll("_", "-")}`] : [`--${name.replaceAll("_", "-")}`, value],
  );
  const format = fields["format"] ?? "png";
  const path = folder.at(`run-${Math.random()}.${format}`);
  const ended = await spawned(
    ["run", ...pictures, "--model", "tiny", "--device", "cpu", "--threads", "1", ...flags, "-o", path],
    {
      cwd: folder.path,
      env: { QEDIT_SERVER: "none" },
    },
  );
  if (ended.code !== 0) throw new Error(ended.stderr);
  return readFileSync(path);
}
