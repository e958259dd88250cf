// A real registry of schemas, Apicurio with Confluent's interface, from Maven Central. Needs Java 17 and Maven; the first time this downloads 109 MB.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { freePort } from "./free-port.js";

const run = promisify(execFile);

// Later ones need a newer Java.
const VERSION = "3.0.9";
const FOLDER = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "qedit-test-apicurio", VERSION);
const JAR = join(FOLDER, `apicurio-registry-app-${VERSION}-runner.jar`);
const STARTS_WITHIN = 180_000;

/** Starts a registry that keeps everything in memory; gives its URL. */
export async function startRegistry(): Promise<{ readonly url: string; readonly stop: () => Promise<void> }> {
  await download();
  const own = mkdtempSync(join(tmpdir(), "qedit-registry-"));
  const [port, management] = [await freePort(), await freePort()];
  const log = join(own, "registry.log");
  const output = openSync(log, "a");
  const settings = {
    ...{ "http.port": port, "http.host": "127.0.0.1" },
    ...{ "management.port": management, "management.host": "127.0.0.1" },
  };
  const options = Object.entries(settings).map(([name, value]) => `-Dquarkus.${name}=${value}`);
  const child = spawn("java", ["-Xmx400m", ...options, "-jar", JAR], { cwd: own, stdio: ["ignore", output, output] });
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    rmSync(own, { recursive: true, force: true });
  };
  const url = `http://127.0.0.1:${port}/apis/ccompat/v7`;
  for (const end = Date.now() + STARTS_WITHIN; ; await delay(200)) {
    if ((await fetch(`${url}/subjects`).catch(() => undefined))?.ok) return { url, stop };
    if (child.exitCode === null && Date.now() < end) continue;
    const said = readFileSync(log, "utf8");
    await stop();
    throw new Error(`The registry did not start:\n${said}`);
  }
}

async function download(): Promise<void> {
  if (existsSync(JAR)) return;
  mkdirSync(FOLDER, { recursive: true });
  const artifact = `io.apicurio:apicurio-registry-app:${VERSION}:tar.gz:all`;
  await run("mvn", ["-q", "-B", "dependency:copy", `-Dartifact=${artifact}`, `-DoutputDirectory=${FOLDER}`]);
  const archive = join(FOLDER, `apicurio-registry-app-${VERSION}-all.tar.gz`);
  await run("tar", ["-xzf", archive, "-C", FOLDER]);
  rmSync(archive);
}
