// deploy/Dockerfile built by buildah, which needs no engine, on a Debian of debootstrap's with this machine's Node: minutes. Base images cannot be pulled everywhere.
import { chownSync, cpSync, existsSync, mkdirSync, realpathSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { CAT } from "../cli/qedit.js";
import { ROOT } from "../docs/pages.js";
import { temporaryFolder } from "../support/folder.js";
import { said } from "./tools.js";

const WITHIN = 1_200_000;
const PROGRAMS = ["buildah", "podman", "debootstrap"];
/** Later runs use it again. */
const DEBIAN = join(tmpdir(), "qedit-debian-bookworm.tar");

const folder = temporaryFolder();
const missing = process.getuid?.() === 0 ? await absentPrograms() : ["root"];
// As tools of Go: minutes.
if (!process.env["QEDIT_BUILD_TOOLS"]) missing.push("QEDIT_BUILD_TOOLS=1");
if (missing.length > 0) console.warn(`The image was not built by buildah, for want of ${missing.join(", ")}`);

describe.skipIf(missing.length > 0)("the image that buildah makes", () => {
  const storage = ["--storage-driver", "vfs", "--root", folder.at("images"), "--runroot", folder.at("run")];
  const chroot = ["--isolation", "chroot"];
  let container: string;
  beforeAll(async () => {
    await done("podman", [...storage, "import", "--quiet", ...certificates(), await debian(), "localhost/base:1"]);
    const build = [...chroot, "--network", "host", "--format", "docker", "--build-arg", "BASE=localhost/base:1"];
    await done("buildah", [...storage, "bud", ...build, "-f", "deploy/Dockerfile", "-t", "qedit:1", "."]);
    container = (await done("buildah", [...storage, "from", "qedit:1"])).split("\n").at(-1)!;
    return () => done("buildah", [...storage, "rm", "--all"]);
  }, WITHIN);

  const inside = (command: readonly string[], options: readonly string[] = []) =>
    done("buildah", [...storage, "run", ...chroot, ...options, container, "--", ...command]);

  test("has the Dockerfile's user, entrypoint, command and health check", async () => {
    const { Docker } = JSON.parse(await done("buildah", [...storage, "inspect", "--type", "image", "qedit:1"])) as {
      Docker: { config: Record<string, unknown> };
    };
    expect(Docker.config).toMatchObject({
      User: "1000:1000",
      Entrypoint: ["node", "/opt/qedit/bin/qedit.js"],
      Cmd: ["serve", "--http", "0.0.0.0:8000", "--metrics"],
      Healthcheck: { Test: expect.arrayContaining(["CMD", "node"]) },
      Labels: { "org.opencontainers.image.title": "qedit" },
    });
  });

  test("runs as uid 1000, to which its own files are closed", async () => {
    expect(await inside(["id", "-u"])).toBe("1000");
    expect(await inside(["qedit", "--version"])).toMatch(/^\d+\.\d+\.\d+/);
    expect(await inside(["sh", "-c", "touch /opt/qedit/x 2>&1 || true"])).toContain("Permission denied");
  });

  test("edits with the embedded model", { timeout: 300_000 }, async () => {
    const data = folder.at("data");
    mkdirSync(data);
    chownSync(data, 1000, 1000);
    await sharp(CAT).toFile(join(data, "cat.png"));
    const edit = [
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
    await inside(["qedit", ...edit], ["--volume", `${data}:/data`]);
    expect((await sharp(join(data, "sepia.png")).metadata()).width).toBeGreaterThan(100);
  });
});

async function absentPrograms(): Promise<string[]> {
  const answers = PROGRAMS.map((program) =>
    said(program, ["--version"]).then(
      ({ code }) => code === 0,
      () => false,
    ),
  );
  const found = await Promise.all(answers);
  return PROGRAMS.filter((_, index) => !found[index]);
}

async function done(program: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await said(program, args, { cwd: ROOT });
  expect(code, `${program} ${args.join(" ")}\n${stderr.slice(-2000)}`).toBe(0);
  return stdout.trim();
}

// An archive of Debian with this machine's Node and npm, and its certificates, where it has some of its own.
async function debian(): Promise<string> {
  if (existsSync(DEBIAN)) return DEBIAN;
  const root = folder.at("debian");
  await done("debootstrap", ["--variant=minbase", "bookworm", root]);
  cpSync(process.execPath, join(root, "usr/local/bin/node"));
  const npm = dirname(dirname(realpathSync(await done("sh", ["-c", "command -v npm"]))));
  cpSync(npm, join(root, "usr/local/lib/node_modules/npm"), { recursive: true });
  await done("ln", ["-s", "../lib/node_modules/npm/bin/npm-cli.js", join(root, "usr/local/bin/npm")]);
  const own = process.env["NODE_EXTRA_CA_CERTS"];
  if (own) {
    mkdirSync(join(root, "etc/ssl/certs"), { recursive: true });
    cpSync(own, join(root, CERTIFICATES), { dereference: true });
  }
  const archive = folder.at("debian.tar");
  await done("tar", ["-C", root, "-cf", archive, "."]);
  rmSync(root, { recursive: true });
  await done("cp", [archive, `${DEBIAN}.new`]);
  renameSync(`${DEBIAN}.new`, DEBIAN);
  return DEBIAN;
}

const CERTIFICATES = "etc/ssl/certs/extra.crt";

function certificates(): readonly string[] {
  return process.env["NODE_EXTRA_CA_CERTS"] ? ["--change", `ENV NODE_EXTRA_CA_CERTS=/${CERTIFICATES}`] : [];
}
