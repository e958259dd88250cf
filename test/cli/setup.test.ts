// qedit setup: homes of its own, small packages in the layouts of the real ones, a local feed. node_modules stays as it is.
import { createHash } from "node:crypto";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findGpus } from "../../src/engine/cuda/gpus.js";
import { CORE_FILE, installedRelease } from "../../src/engine/cuda/release.js";
import {
  CUDA,
  CUDA_FILE,
  NPM_LAYOUT,
  NUGET_LAYOUT,
  SHARED_FILE,
  tarball,
  VERSION,
  zipFile,
} from "../catalog/runtime/packages.js";
import { serve, testServer } from "../catalog/runtime/server.js";
import { elf, provider } from "../support/elf.js";
import { temporaryFolder } from "../support/folder.js";
import { type Ended, expectRefusal, qedit, spawned } from "./qedit.js";

const release = installedRelease();
const folder = temporaryFolder();
const hasGpu = (await findGpus()).gpus.length > 0;
const server = await testServer();
let packaged = "";
let count = 0;
let nativeBefore: readonly string[] = [];

beforeAll(async () => {
  nativeBefore = readdirSync(release.folder);
  packaged = await tarball(folder, "provider-0.4.9.tgz", NPM_LAYOUT);
});
afterAll(() => {
  expect(readdirSync(release.folder)).toEqual(nativeBefore);
});

interface Home {
  readonly path: string;
  readonly runtime: string;
  readonly setup: (...args: string[]) => Promise<Ended>;
  readonly setupProcess: (...args: string[]) => Promise<Ended>;
  readonly installed: () => string[];
}

// A new home, and setup in it.
function newHome(): Home {
  const path = folder.at(`home${count++}`);
  mkdirSync(path);
  const runtime = join(path, "data", "qedit", "runtime");
  const surroundings = { cwd: path, env: { HOME: path, XDG_DATA_HOME: join(path, "data") } };
  return {
    path,
    runtime,
    setup: (...args) => qedit(["setup", ...args], surroundings),
    setupProcess: (...args) => spawned(["setup", ...args], surroundings),
    installed: () => (existsSync(runtime) ? readdirSync(runtime, { recursive: true, encoding: "utf8" }).sort() : []),
  };
}

const NAME = `onnxruntime-${VERSION}-${release.platform}`;
const COMPLETE = [NAME, `${NAME}/${CORE_FILE}`, `${NAME}/${CUDA_FILE}`, `${NAME}/${SHARED_FILE}`];

describe.runIf(release.hasCuda)("setup", () => {
  test("takes the provider from an npm tarball, and says what CUDA still lacks", async () => {
    const { setup, installed, runtime } = newHome();
    const { code, stdout, stderr } = await setup("--from", packaged);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`Installed the CUDA provider from ${packaged} in ${join(runtime, NAME)}\n`);
    expect(installed()).toEqual(COMPLETE);
    expect(readFileSync(join(runtime, NAME, CUDA_FILE)).equals(CUDA)).toBe(true);
  });

  test("prints one object with --json, with the reason of each thing that CUDA lacks", async () => {
    const { setup, runtime } = newHome();
    const report = JSON.parse((await setup("--from", packaged, "--json")).stdout) as Record<string, unknown>;
    expect(report).toMatchObject({
      action: "installed",
      version: VERSION,
      folder: join(runtime, NAME),
      source: packaged,
      works: false,
    });
    // The small provider asks for libraries as the real one does, and computes nothing on any machine.
    expect(report["problems"]).toEqual(
      expect.arrayContaining([{ text: expect.any(String), remedy: expect.any(String) }]),
    );
  });

  test("removes what a killed setup was unpacking", async () => {
    const { setup, runtime, installed } = newHome();
    mkdirSync(join(runtime, `${NAME}.4711.new`), { recursive: true });
    expect((await setup("--from", packaged)).code).toBe(0);
    expect(installed()).toEqual(COMPLETE);
  });

  test("leaves a provider that is there, unless it is forced", async () => {
    const { setup } = newHome();
    await setup("--from", packaged);
    expect((await setup("--from", packaged)).stdout).toContain("is installed already");
    expect((await setup("--from", packaged, "--force")).stdout).toContain("Installed the CUDA provider");
  });

  test("writes nothing with --dry-run", async () => {
    const { setup, path } = newHome();
    const { code, stdout } = await setup("--from", packaged, "--dry-run");
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^Would install the CUDA provider from /)]);
    expect(readdirSync(path)).toEqual([]);
  });

  test("removes what it installed, and nothing twice", async () => {
    const { setup, runtime, installed } = newHome();
    await setup("--from", packaged);
    expect((await setup("--remove", "--dry-run")).stdout).toBe(`Would remove ${runtime}\n`);
    expect(installed()).toEqual(COMPLETE);
    expect((await setup("--remove")).stdout).toContain(`Removed ${runtime}\n`);
    expect(existsSync(runtime)).toBe(false);
    expect((await setup("--remove")).stdout).toContain("There is nothing to remove");
  });

  test("two at once leave one whole provider", async () => {
    const { setupProcess, installed } = newHome();
    const ends = await Promise.all([setupProcess("--from", packaged), setupProcess("--from", packaged)]);
    expect(ends.map(({ code }) => code).sort()).toEqual(
      expect.toBeOneOf([
        [0, 0],
        [0, 1],
      ]),
    );
    expect(installed()).toEqual(COMPLETE);
  });
});

describe.runIf(release.hasCuda)("setup from the network", () => {
  const nupkg = () => readFileSync(zipFile(folder, "feed.nupkg", NUGET_LAYOUT));
  const sha512 = (bytes: Buffer) => createHash("sha512").update(bytes).digest("base64");

  // A NuGet v3 feed with one package.
  function feed(bytes: Buffer, hash = sha512(bytes)): void {
    const id = "microsoft.ml.onnxruntime.gpu.linux";
    const documents: Readonly<Record<string, unknown>> = {
      "/index.json": {
        resources: [
          { "@id": `${server.url}/flat`, "@type": "PackageBaseAddress/3.0.0" },
          { "@id": `${server.url}/registration/`, "@type": "RegistrationsBaseUrl/3.6.0" },
        ],
      },
      [`/registration/${id}/${VERSION}.json`]: { catalogEntry: `${server.url}/catalog.json` },
      "/catalog.json": { packageHash: hash, packageHashAlgorithm: "SHA512" },
    };
    server.behave((response, request, index) => {
      const document = documents[request.url!];
      if (document !== undefined) return void response.end(JSON.stringify(document));
      if (request.url === `/flat/${id}/${VERSION}/${id}.${VERSION}.nupkg`)
        return serve(bytes)(response, request, index);
      response.writeHead(404).end();
    });
  }

  test("asks a NuGet feed for the installed release, and holds the package to the feed's hash", async () => {
    const bytes = nupkg();
    feed(bytes);
    const { setup, installed } = newHome();
    const { stdout, stderr } = await setup("--feed", `${server.url}/index.json`, "--json");
    expect(stderr).toMatch(/^fetching microsoft\.ml\.onnxruntime\.gpu\.linux\.\S+\.nupkg from .+: http:.+\n$/);
    expect(JSON.parse(stdout)).toMatchObject({
      action: "installed",
      bytes: bytes.length,
      sha256: createHash("sha256").update(bytes).digest("hex"),
    });
    expect(installed()).toEqual(COMPLETE);
  });

  test("takes nothing without a hash that can be trusted", async () => {
    const { setup, installed } = newHome();
    const unverified = {
      code: 2,
      message: /^error: Cannot take the provider from .* unverified: /,
      hint: /--sha256 HEX/,
    };
    expectRefusal(await setup("--from", `${server.url}/provider.tgz`), unverified);
    const bytes = nupkg();
    feed(bytes, "");
    expectRefusal(await setup("--feed", `${server.url}/index.json`), unverified);
    expect(installed()).toEqual([]);
    const right = createHash("sha256").update(bytes).digest("hex");
    expect((await setup("--feed", `${server.url}/index.json`, "--sha256", right)).code).toBe(0);
  });

  test.runIf(!hasGpu)("fetches NVIDIA's libraries only for an NVIDIA GPU, or when it is forced to", async () => {
    const refused = await newHome().setup("--libraries", "--from", packaged);
    expectRefusal(refused, { code: 1, message: /Cannot find an NVIDIA GPU.*1\.1 GB/, hint: /--force/ });
  });

  test("refuses a package with another hash, and installs nothing", async () => {
    feed(nupkg(), sha512(Buffer.from("other")));
    const { setup, installed } = newHome();
    expectRefusal(await setup("--feed", `${server.url}/index.json`), {
      code: 1,
      message: /^error: Cannot take microsoft\.ml\.onnxruntime\.gpu\.linux\.1\.29\.0\.nupkg: its sha512 is /,
    });
    expect(installed().some((name) => name.startsWith(NAME))).toBe(false);
  });

  test("takes a URL, goes on after cuts, and checks --sha256", async () => {
    const bytes = readFileSync(packaged);
    const [right, wrong] = [createHash("sha256").update(bytes).digest("hex"), "0".repeat(64)];
    server.behave((response, request, index) =>
      serve(bytes, { most: index < 5 ? 100 : Infinity })(response, request, index),
    );
    const { setup, installed } = newHome();
    expect((await setup("--from", `${server.url}/x/provider.tgz?token=1`, "--sha256", right)).code).toBe(0);
    expect(installed()).toEqual(COMPLETE);
    const other = newHome();
    expectRefusal(await other.setup("--from", `${server.url}/provider.tgz`, "--sha256", wrong), {
      code: 1,
      message: new RegExp(`^error: Cannot take provider\\.tgz: its sha256 is ${right}, wanted ${wrong}$`),
    });
  });

  test("tells which server is not there", async () => {
    const { setup } = newHome();
    expectRefusal(await setup("--feed", "http://127.0.0.1:9/index.json"), {
      code: 1,
      message: /^error: Cannot fetch http:\/\/127\.0\.0\.1:9\/index\.json: /,
    });
  });
});

describe.runIf(release.hasCuda)("setup refuses, and leaves what was there,", () => {
  test.each([
    [
      "a provider of another release",
      () =>
        tarball(folder, "other.tgz", { ...NPM_LAYOUT, [`package/Plugins/Linux/x64/${CUDA_FILE}`]: provider("1.30.0") }),
      1,
      /is not of ONNX Runtime 1\.29\.0/,
    ],
    ["a package of something else", () => tarball(folder, "else.tgz", { "package/index.js": "" }), 1, /are not in it$/],
    ["a file that does not exist", () => folder.at("nowhere.tgz"), 2, /it does not exist$/],
    ["a library of another machine", () => folder.write("arm.so", elf({ machine: 183 })), 1, /./],
  ])("%s", async (_, make, code, message) => {
    const { setup, installed } = newHome();
    await setup("--from", packaged);
    expectRefusal(await setup("--from", await make(), "--force"), { code, message });
    expect(installed()).toEqual(COMPLETE);
  });

  test.each([
    [["--sha256", "abc", "--from", "https://example.com/x.tgz"], /^error: Cannot use "abc" for --sha256/],
    [["--feed", "no url"], /^error: Cannot use "no url" for --feed/],
  ])("wrong usage: %j", async (args, message) => {
    expectRefusal(await newHome().setup(...args), { code: 2, message });
  });

  // Root may write anywhere.
  test.runIf(process.getuid?.() !== 0)("a home that cannot be written to, naming the way out", async () => {
    const { setup, path } = newHome();
    chmodSync(path, 0o555);
    expectRefusal(await setup("--from", packaged), { code: 1, message: /permission denied/, hint: /QEDIT_HOME/ });
    chmodSync(path, 0o755);
  });
});

describe.runIf(release.hasCuda)("after setup", () => {
  test("edits on the CPU go on with ONNX Runtime from the new place", async () => {
    const { setup, path } = newHome();
    await setup("--from", packaged);
    const { code, stdout } = await qedit(["doctor", "--device", "cpu", "--json"], {
      cwd: path,
      env: { HOME: path, XDG_DATA_HOME: join(path, "data") },
    });
    expect([code, JSON.parse(stdout)]).toMatchObject([
      0,
      { works: true, device: "cpu", sessions: [{ device: "cpu", works: true }, {}] },
    ]);
  });

  test("a provider that is damaged is told, with what mends it", async () => {
    const { setup, path, runtime } = newHome();
    await setup("--from", packaged);
    copyFileSync(folder.write("damage", "junk"), join(runtime, NAME, CUDA_FILE));
    const { stdout } = await qedit(["doctor", "--device", "cuda", "--json"], {
      cwd: path,
      env: { HOME: path, XDG_DATA_HOME: join(path, "data") },
    });
    const { problems } = JSON.parse(stdout) as { problems: { text: string; remedy: string }[] };
    expect(problems).toContainEqual({
      text: expect.stringMatching(/^the CUDA provider is damaged: /),
      remedy: "`qedit setup --force`",
    });
    const auto = await qedit(["doctor", "--json"], {
      cwd: path,
      env: { HOME: path, XDG_DATA_HOME: join(path, "data") },
    });
    expect([auto.code, JSON.parse(auto.stdout)]).toMatchObject([0, { device: "cpu" }]);
  });
});
