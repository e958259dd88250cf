// Python packages for nightly tests, in a virtual environment of their own that later runs use again.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Milliseconds for the installation. */
const INSTALL_WITHIN = 300_000;

/** The folder of programs of an environment with these packages; a text says why there is none: no Python, or no registry. */
export async function pythonWith(
  packages: readonly string[],
): Promise<{ readonly bin: string } | { readonly missing: string }> {
  const name = createHash("sha256").update(packages.join(" ")).digest("hex").slice(0, 12);
  const folder = join(tmpdir(), `qedit-python-${name}`);
  const bin = join(folder, "bin");
  const done = join(folder, "installed");
  if (existsSync(done)) return { bin };
  try {
    await rm(folder, { recursive: true, force: true });
    await run("python3", ["-m", "venv", folder]);
    await run(join(bin, "pip"), ["install", "--quiet", ...packages], { timeout: INSTALL_WITHIN });
    await writeFile(done, "");
    return { bin };
  } catch (error) {
    return { missing: (error as Error).message.split("\n").at(-1)!.slice(0, 200) };
  }
}
