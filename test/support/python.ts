// Python packages for nightly tests, in a virtual environment of their own that later runs use again.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { fetchedFolder, missing } from "./fetched-folder.js";

const run = promisify(execFile);

/** Milliseconds for the installation. */
const INSTALL_WITHIN = 300_000;

/** The folder of programs of an environment with these packages; a text says why there is none: no Python, or no registry. */
export async function pythonWith(
  packages: readonly string[],
): Promise<{ readonly bin: string } | { readonly missing: string }> {
  const name = createHash("sha256").update(packages.join(" ")).digest("hex").slice(0, 12);
  try {
    const folder = await fetchedFolder(`python-${name}`, async (empty) => {
      await run("python3", ["-m", "venv", empty]);
      await run(join(empty, "bin", "pip"), ["install", "--quiet", ...packages], { timeout: INSTALL_WITHIN });
    });
    return { bin: join(folder, "bin") };
  } catch (error) {
    return missing(error);
  }
}
