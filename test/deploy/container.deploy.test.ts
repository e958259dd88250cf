// What deploy/Dockerfile makes, built by its own instructions and run as an orchestrator would: as uid 1000, over a root that is read-only, qedit being process 1.
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CAT } from "../cli/qedit.js";
import { temporaryFolder } from "../support/folder.js";
import {
  buildImage,
  bytesOf,
  type Container,
  containersMissing,
  endOfContainer,
  type Image,
  startContainer,
} from "./container.js";

const missing = await containersMissing();
if (missing !== undefined) console.warn(`The container was not built and not run: ${missing}`);

/** Of all that the final stage copies over its base. */
const MOST_BYTES = 200 * 1024 ** 2;
const BUILD_WITHIN = 900_000;
const KEY = { QEDIT_API_KEY: "a-long-secret", QEDIT_MODEL: "tiny" };

describe.skipIf(missing !== undefined)("the image", () => {
  const folder = temporaryFolder();
  const started: Container[] = [];
  let image: Image;
  beforeAll(async () => {
    image = await buildImage("cpu", folder.path);
  }, BUILD_WITHIN);
  afterAll(() => {
    for (const container of started) container.kill();
  });

  async function start(name: string, args?: readonly string[]): Promise<Container> {
    const data = dataFolder(name);
    const container = await startContainer(image, { data, env: KEY, ...(args && { args }) });
    started.push(container);
    return container;
  }

  // A volume that belongs to the user of the container.
  function dataFolder(name: string): string {
    const data = folder.at(name);
    mkdirSync(data, { recursive: true });
    chownSync(data, 1000, 1000);
    return data;
  }

  async function healthy(container: Container): Promise<void> {
    await expect
      .poll(
        () =>
          container.exec(image.healthcheck).then(
            () => "healthy",
            () => container.log(),
          ),
        { timeout: 60_000, interval: 300 },
      )
      .toBe("healthy");
  }

  test("holds production packages, the libraries of one platform and no test, and is small", () => {
    const own = join(folder.path, "stages/package/opt/qedit");
    expect(readdirSync(own).sort()).toEqual(
      [
        "LICENSE",
        "THIRD_PARTY_NOTICES",
        ".npmrc",
        "bin",
        "dist",
        "fixtures",
        "models.json",
        "node_modules",
        "package-lock.json",
        "package.json",
      ].sort(),
    );
    const platforms = join(own, "node_modules/onnxruntime-node/bin/napi-v6");
    expect(
      readdirSync(platforms, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".node")),
    ).toEqual([join(process.platform, process.arch, "onnxruntime_binding.node")]);
    for (const name of ["vitest", "typescript", "@biomejs/biome"])
      expect(existsSync(join(own, "node_modules", name))).toBe(false);
    expect(bytesOf(image.layer!)).toBeLessThan(MOST_BYTES);
  });

  test("edits with the embedded model", async () => {
    const data = dataFolder("edit");
    await sharp(CAT).toFile(join(data, "cat.png"));
    const args = [
      "run",
      "cat.png",
      "-p",
      "make it sepia",
      "--model",
      "tiny",
      "--megapixels",
      "0.02",
      "-o",
      "sepia.png",
    ];
    const container = await startContainer(image, { data, args, env: { QEDIT_SERVER: "none" } });
    expect(await endOfContainer(container), container.log()).toBe(0);
    expect((await sharp(join(data, "sepia.png")).metadata()).width).toBeGreaterThan(100);
  });

  test("serves with its own command, as uid 1000, and cannot write its own files", async () => {
    const container = await start("serve");
    await healthy(container);
    const probe = [
      "node",
      "-e",
      "fetch('http://127.0.0.1:8000/v2/health/ready').then((answer) => console.log(answer.status))",
    ];
    expect(await container.exec(probe)).toBe("200\n");
    expect(await container.exec(["id", "-u"])).toBe("1000\n");
    await expect(container.exec(["touch", "/opt/qedit/x"])).rejects.toThrow(/Read-only file system|Permission denied/);
    const status = JSON.parse(await container.exec(["qedit", "serve", "status", "--json"])) as { phase: string };
    expect(status.phase).toBe("ready");
  });

  test("ends in order by SIGTERM to process 1", async () => {
    const container = await start("stop");
    await healthy(container);
    expect(readFileSync(`/proc/${container.pid()}/cmdline`, "utf8")).toMatch(
      /^node\0\/opt\/qedit\/bin\/qedit\.js\0serve/,
    );
    process.kill(container.pid(), "SIGTERM");
    expect(await endOfContainer(container)).toBe(0);
    expect(container.log()).toContain('"msg":"stopped"');
  });

  test("ends at once by a second SIGTERM, though process 1 has no default for signals", async () => {
    const container = await start("twice", [...image.command, "--grace", "10m"]);
    await healthy(container);
    const long = `const form = new FormData();
      form.append("image", new Blob([fs.readFileSync("/data/cat.png")]), "cat.png");
      for (const [name, value] of Object.entries({ prompt: "make it sepia", steps: "200", megapixels: "1" })) form.append(name, value);
      fetch("http://127.0.0.1:8000/v1/jobs", { method: "POST", body: form, headers: { authorization: "Bearer a-long-secret" } }).then((answer) => console.log(answer.status));`;
    await sharp(CAT).toFile(join(folder.at("twice"), "cat.png"));
    expect(await container.exec(["node", "-e", long])).toBe("202\n");
    process.kill(container.pid(), "SIGTERM");
    await expect.poll(() => container.log(), { timeout: 20_000 }).toContain('"msg":"stopping"');
    process.kill(container.pid(), "SIGTERM");
    const sent = performance.now();
    expect(await endOfContainer(container)).toBe(143);
    expect(performance.now() - sent).toBeLessThan(5_000);
  });

  test("refuses an open address without a key", async () => {
    const container = await startContainer(image, { data: dataFolder("open") });
    started.push(container);
    expect(await endOfContainer(container)).toBe(2);
    expect(container.log()).toMatch(/Cannot listen on 0\.0\.0\.0 without a key/);
  });

  test("says its version, licence and revision in labels", () => {
    const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    const text = readFileSync("deploy/Dockerfile", "utf8");
    expect(text).toContain(`ARG VERSION=${version}\n`);
    for (const label of ["title", "description", "licenses", "version", "revision"])
      expect(image.labels).toContain(`org.opencontainers.image.${label}=`);
  });
});
