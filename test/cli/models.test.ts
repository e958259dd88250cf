// qedit models as real processes, against a local server that stands for the hub and misbehaves.
import { type ChildProcess, execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import names from "../../fixtures/tiny/names.json" with { type: "json" };
import { readSafetensors } from "../../src/checkpoint/safetensors/safetensors.js";
import { type HubServer, hubServer, type Manners, sha256Of } from "../catalog/hub-server.js";
import { rewritten } from "../checkpoint/rewrite.js";
import { fixture } from "../support/golden.js";
import { CAT, expectRefusal, LORA, QUICK, qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = ["run", "cat.jpg", "-p", "x", ...QUICK, "--megapixels", "0.002", "--steps", "1", "--cfg", "1", "--force"];

/** The tiny model as a catalogue of its own publishes it. */
const FILES = { vae: "vae", textEncoder: "text-encoder", transformer: "transformer" };
const bytesOf = (file: string) => readFileSync(fixture(`tiny/${file}.safetensors`));
const served = Object.fromEntries(
  ["vae", "text-encoder", "transformer", "loras/published"].map((file) => [
    `owner/tiny/resolve/main/${file}.safetensors`,
    bytesOf(file),
  ]),
);

function published(file: string, changed: object = {}) {
  const bytes = bytesOf(file);
  const name = `tiny-${file.replace("loras/", "")}.safetensors`;
  return {
    file: name,
    bytes: bytes.length,
    sha256: sha256Of(bytes),
    licence: "Apache-2.0",
    repository: "owner/tiny",
    path: `${file}.safetensors`,
    revision: "main",
    ...changed,
  };
}

async function catalogue(name: string, changed: Partial<Record<keyof typeof FILES, object>> = {}): Promise<string> {
  const files = Object.fromEntries(
    Object.entries(FILES).map(([role, file]) => [role, published(file, changed[role as keyof typeof FILES])]),
  );
  const defaults = { steps: 1, cfg: 1, sampler: "euler", scheduler: "simple", shift: 3, cfgNorm: 1 };
  const model = {
    summary: "tiny",
    licence: "Apache-2.0",
    files,
    loras: { "lightning-4steps": published("loras/published") },
    defaults,
    presets: { "fast-4": { summary: "quick", lora: "lightning-4steps", steps: 4, cfg: 1 } },
  };
  await writeFile(folder.at(name), JSON.stringify({ default: "tiny", models: { tiny: model } }));
  return folder.at(name);
}

/** A hub, and the surroundings in which a process finds it, with a home of its own. */
async function hub(
  name: string,
  manners: Manners = {},
  catalog = "catalog.json",
): Promise<
  {
    server: HubServer;
    at: { cwd: string; env: Record<string, string> };
    home: (path?: string) => string;
  } & AsyncDisposable
> {
  const server = await hubServer(served, manners);
  const home = (path = "") => folder.at(join(name, path));
  await mkdir(home(), { recursive: true });
  const env = {
    QEDIT_CATALOG: folder.at(catalog),
    HF_ENDPOINT: server.endpoint,
    QEDIT_HOME: home(),
    HF_HOME: home("hf"),
  };
  return { server, at: { cwd: folder.path, env }, home, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

const PULLED = [
  "data/models/vae/tiny-vae.safetensors",
  "data/models/text_encoders/tiny-text-encoder.safetensors",
  "data/models/diffusion_models/tiny-transformer.safetensors",
];

function expectPulled(home: (path?: string) => string): void {
  for (const [index, file] of Object.values(FILES).entries()) {
    expect(sha256Of(readFileSync(home(PULLED[index]!)))).toBe(sha256Of(bytesOf(file)));
  }
}

/** Sends a signal once so many bytes of some file are journalled. */
async function signalAt(
  child: ChildProcess,
  { signal, folder: where, bytes }: { signal: NodeJS.Signals; folder: string; bytes: number },
): Promise<void> {
  for (let waited = 0; waited < 30_000; waited += 20) {
    const names = (await readdir(where, { recursive: true }).catch(() => [])).filter((name) =>
      name.endsWith(".part.json"),
    );
    for (const name of names) {
      const journal = await readFile(join(where, name), "utf8").catch(() => "");
      if (Number(/"end":(\d+)/.exec(journal)?.[1] ?? 0) >= bytes) return void child.kill(signal);
    }
    await sleep(20);
  }
}

beforeAll(async () => {
  await cp(CAT, folder.at("cat.jpg"));
  await catalogue("catalog.json");
});

describe("qedit models pull", () => {
  test("says first under which licence weights are that are not for every use", async () => {
    await using tiny = await hub("licence");
    const { QEDIT_CATALOG: _, ...env } = tiny.at.env;
    const ended = await qedit(["models", "pull", "qwen-image-2.1", "--dry-run"], { ...tiny.at, env });
    expect(ended.stderr).toMatch(
      /^qwen_image_2\.1_int8_convrot\.safetensors: 7\.26 GB \(.*\); Qwen Research License, not for commercial use$/m,
    );
    expect(ended.stderr).toMatch(/^qwen3vl_8b_int8_convrot\.safetensors: 9\.35 GB \([\d,]+ bytes\)$/m);
  });

  test("says the exact bytes and the free room first, and with --dry-run does nothing more", async () => {
    await using tiny = await hub("dry");
    const ended = await qedit(["models", "pull", "--dry-run", "--json"], tiny.at);
    expect(ended.code).toBe(0);
    const total = Object.values(FILES).reduce((sum, file) => sum + bytesOf(file).length, 0);
    expect(JSON.parse(ended.stdout)).toMatchObject({
      bytes: total,
      free: expect.any(Number),
      files: [{ isPresent: false }, { isPresent: false }, { isPresent: false }],
    });
    expect(ended.stderr).toMatch(
      new RegExp(`to download: 6\\.11 MB \\(${total.toLocaleString("en-GB")} bytes\\) to .*, where .* are free`),
    );
    expect(tiny.server.seen).toEqual([]);
  });

  test("asks, and is refused where nobody can answer", async () => {
    await using tiny = await hub("asks");
    expectRefusal(await qedit(["models", "pull"], tiny.at), {
      code: 2,
      message: /Cannot ask "Download 6\.11 MB/,
      hint: /--yes/,
    });
    expect(tiny.server.seen).toEqual([]);
  });

  test("survives 20 cuts, and run uses what came, with a preset's LoRA by its name", async () => {
    await using tiny = await hub("cuts", { cuts: 20 });
    const ended = await qedit(["models", "pull", "--preset", "fast-4", "--yes"], tiny.at);
    expect([ended.code, ended.stderr.match(/again in/g)?.length]).toEqual([0, 20]);
    expect(ended.stdout.trim().split("\n")).toHaveLength(4);
    expectPulled(tiny.home);
    const ran = await qedit([...RUN, "--lora", "lightning-4steps", "-o", "pulled.png"], tiny.at);
    expect([ran.code, ran.stdout]).toEqual([0, "pulled.png\n"]);
    expect(ran.stderr).toContain("matched 24/24 modules");
    // A second pull has nothing to do, and asks nothing.
    const again = await qedit(["models", "pull", "--json"], tiny.at);
    expect(JSON.parse(again.stdout)).toMatchObject({ bytes: 0, downloaded: [] });
  });

  test("killed in the middle goes on where it was", async () => {
    await using tiny = await hub("killed", { speed: 100_000 });
    const ended = await spawned(["models", "pull", "--yes"], {
      ...tiny.at,
      started: (child) => void signalAt(child, { signal: "SIGKILL", folder: tiny.home(), bytes: 100_000 }),
    });
    expect(ended.signal).toBe("SIGKILL");
    const part = (await readdir(tiny.home("data/models"), { recursive: true })).find((name) =>
      name.endsWith(".part.json"),
    )!;
    const { done } = JSON.parse(await readFile(tiny.home(`data/models/${part}`), "utf8")) as {
      done: { start: number; end: number }[];
    };
    expect(done[0]!.end).toBeGreaterThanOrEqual(100_000);
    delete tiny.server.manners.speed;
    tiny.server.seen.length = 0;
    expect((await qedit(["models", "pull", "--yes"], tiny.at)).code).toBe(0);
    expectPulled(tiny.home);
    expect(tiny.server.seen[0]!.range).toBe(`bytes=${done[0]!.end}-${done[0]!.end}`);
  });

  test("stopped by Ctrl-C keeps what came, and says so by its exit code", async () => {
    await using tiny = await hub("stopped", { speed: 500_000 });
    const ended = await spawned(["models", "pull", "--yes"], {
      ...tiny.at,
      started: (child) => void signalAt(child, { signal: "SIGINT", folder: tiny.home(), bytes: 2 }),
    });
    expect(ended.code ?? ended.signal).toBeOneOf([130, "SIGINT"]);
    expect(existsSync(tiny.home("data/models/vae/tiny-vae.safetensors.part.json"))).toBe(true);
    expect(existsSync(tiny.home("data/models/vae/tiny-vae.safetensors.lock"))).toBe(ended.code === null);
  });

  test("twice at once does no harm", async () => {
    await using tiny = await hub("twice", { speed: 3_000_000 });
    const both = await Promise.all([
      spawned(["models", "pull", "--yes"], tiny.at),
      spawned(["models", "pull", "--yes"], tiny.at),
    ]);
    expect(both.map(({ code }) => code)).toEqual([0, 0]);
    expectPulled(tiny.home);
    expect(both.map(({ stderr }) => stderr).join()).toMatch(/another download of it is running, process \d+/);
  });

  test("refuses a wrong hash, keeps the file aside, and takes the right one after", async () => {
    await catalogue("wrong.json", { vae: { sha256: "0".repeat(64) } });
    await using tiny = await hub("wrong", {}, "wrong.json");
    const ended = await qedit(["models", "pull", "--yes"], tiny.at);
    expectRefusal(ended, {
      code: 1,
      message: /Cannot accept tiny-vae\.safetensors: its SHA-256 is [0-9a-f]{64}, 0{64} was published/,
      hint: /tiny-vae\.safetensors\.wrong/,
    });
    expect(existsSync(tiny.home("data/models/vae/tiny-vae.safetensors.wrong"))).toBe(true);
    expect(existsSync(tiny.home(PULLED[0]!))).toBe(false);
    const env = { ...tiny.at.env, QEDIT_CATALOG: folder.at("catalog.json") };
    expect((await qedit(["models", "pull", "--yes"], { ...tiny.at, env })).code).toBe(0);
    expectPulled(tiny.home);
    expect(existsSync(tiny.home("data/models/vae/tiny-vae.safetensors.wrong"))).toBe(false);
  });

  test("takes what other tools have in place, and says where", async () => {
    await using tiny = await hub("shared");
    await mkdir(tiny.home("comfy/models/vae"), { recursive: true });
    await cp(fixture("tiny/vae.safetensors"), tiny.home("comfy/models/vae/tiny-vae.safetensors"));
    const { stdout, stderr } = await qedit(["models", "pull", "--dry-run", "--json"], {
      ...tiny.at,
      env: { ...tiny.at.env, QEDIT_MODELS: tiny.home("comfy") },
    });
    expect(stderr).toContain(`tiny-vae.safetensors: on disk, at ${tiny.home("comfy/models/vae/tiny-vae.safetensors")}`);
    expect(JSON.parse(stdout)).toMatchObject({
      files: [{ isPresent: true, missing: 0 }, { isPresent: false }, { isPresent: false }],
    });
  });

  test.each([
    [401, /it needs a login \(401\)/, /HF_TOKEN/],
    [403, /access is refused \(403\)/, /Accept its terms at .*owner\/tiny/],
    [404, /there is no such file \(404\)/, /owner\/tiny/],
  ])("tells what to do when the hub answers %i", async (always, message, hint) => {
    await using tiny = await hub(`status-${always}`, { always });
    expectRefusal(await qedit(["models", "pull", "--yes"], tiny.at), { code: 1, message, hint });
  });

  test.each([
    [
      "an unknown model",
      ["models", "pull", "qwen-image-edit-2510"],
      /Cannot find a model named "qwen-image-edit-2510"/,
    ],
    [
      "an unknown LoRA",
      ["models", "pull", "--lora", "lightning-3steps"],
      /Cannot find a LoRA named "lightning-3steps" of tiny: it has lightning-4steps/,
    ],
    ["an unknown preset", ["models", "pull", "--preset", "best"], /Cannot find a preset named "best" of tiny/],
  ])("refuses %s", async (_, args, message) => {
    await using tiny = await hub("unknown");
    expectRefusal(await qedit(args, tiny.at), { code: 2, message, hint: /./ });
  });

  test.runIf(process.platform === "linux" && process.getuid?.() === 0)(
    "on a full disk is one clear line, before and in the middle",
    async () => {
      await using tiny = await hub("full");
      const disk = tiny.home("disk");
      await mkdir(disk);
      try {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "none", disk], { stdio: "ignore" });
      } catch {
        // Containers without the right to mount have no small disks.
        return;
      }
      try {
        const pull = ["models", "pull", "--yes", "--models-dir", disk];
        expectRefusal(await qedit(pull, tiny.at), {
          code: 1,
          message: /6\.11 MB are needed, 2\.\d+ MB are free/,
          hint: /--models-dir/,
        });
        // The check passes, then something else fills the disk.
        execFileSync("mount", ["-o", "remount,size=8m", disk]);
        tiny.server.manners.speed = 2_000_000;
        const started = () =>
          void sleep(1800)
            .then(() => writeFile(join(disk, "filler"), Buffer.alloc(6_000_000)))
            .catch(() => {});
        expectRefusal(await spawned(pull, { ...tiny.at, started }), {
          code: 1,
          message: /no space is left on the disk|4\.97 MB are needed, 1\.\d+ MB are free/,
          hint: /Free some space/,
        });
      } finally {
        execFileSync("umount", [disk]);
      }
    },
  );
});

describe("qedit models", () => {
  test("list and show tell every model with its files, on disk or not", async () => {
    const listed = JSON.parse((await qedit(["models", "list", "--json"], here)).stdout) as {
      models: { name: string; missing: number; bytes: number }[];
    };
    expect(listed.models[0]).toMatchObject({
      name: "qwen-image-edit-2509",
      isDefault: true,
      bytes: 30_069_175_350,
      missing: 30_069_175_350,
    });
    expect((await qedit(["models", "list"], here)).stdout).toMatch(/^\* qwen-image-edit-2509 +30\.07 GB +not on disk/);
    const shown = await qedit(["models", "show", "qwen-image-edit-2511"], here);
    expect(shown.stdout).toMatch(
      /transformer: qwen_image_edit_2511_fp8mixed\.safetensors, 20\.53 GB \(20,533,762,817 bytes\), Apache-2\.0/,
    );
    expect(shown.stdout).toContain("no published hash known");
    expect(JSON.parse((await qedit(["models", "show", "--json"], here)).stdout)).toMatchObject({
      defaultsFrom: expect.stringMatching(/of 2025.*LoRA on, 4 steps at cfg 1.*off, 20 steps at cfg 4/),
      presets: { "fast-4": { lora: "lightning-4steps" } },
    });
  });

  test("verify hashes and checks headers, and exits 3 for what is wrong", async () => {
    await using tiny = await hub("verify");
    await qedit(["models", "pull", "--yes"], tiny.at);
    const good = await qedit(["models", "verify"], tiny.at);
    expect([good.code, good.stdout.match(/^ok .*hash as published/gm)?.length]).toEqual([0, 3]);
    const path = tiny.home(PULLED[2]!);
    const bytes = await readFile(path);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(path, bytes);
    const bad = await qedit(["models", "verify", "--json"], tiny.at);
    expect(bad.code).toBe(3);
    expect(JSON.parse(bad.stdout)).toMatchObject({
      files: [
        { compared: "published" },
        { compared: "published" },
        { problem: expect.stringMatching(/its SHA-256 is .* is wanted/) },
      ],
    });
    const named = await qedit(["models", "verify", fixture("tiny/vae-fp32.safetensors")], tiny.at);
    expect([named.code, named.stdout]).toEqual([
      0,
      expect.stringMatching(/^ok .*no published hash known.*Qwen-Image VAE/),
    ]);
    await cp(fixture("tiny/vae.safetensors"), tiny.home("tiny-transformer.safetensors"));
    expect((await qedit(["models", "verify", tiny.home("tiny-transformer.safetensors")], tiny.at)).stdout).toMatch(
      /BAD .*a transformer is wanted, it is a vae/,
    );
  });

  test("verify of a model that is not there exits 3", async () => {
    await using tiny = await hub("absent");
    const ended = await qedit(["models", "verify", "tiny"], tiny.at);
    expect([ended.code, ended.stdout.match(/BAD .*it is not on disk/g)?.length]).toEqual([3, 3]);
    expect((await qedit(["models", "verify"], tiny.at)).code).toBe(0);
  });

  test("rm removes what was downloaded, and nothing else", async () => {
    await using tiny = await hub("rm");
    await qedit(["models", "pull", "--yes"], tiny.at);
    // The user's own file under a published name.
    await rm(tiny.home(PULLED[0]!));
    await rm(tiny.home("data/models/vae/.tiny-vae.safetensors.qedit.json"));
    await cp(fixture("tiny/vae.safetensors"), tiny.home(PULLED[0]!));
    expectRefusal(await qedit(["models", "rm", "tiny"], tiny.at), {
      code: 2,
      message: /Cannot ask "Remove 2 files/,
      hint: /--yes/,
    });
    const ended = await qedit(["models", "rm", "tiny", "--yes"], tiny.at);
    expect([ended.code, ended.stdout.trim().split("\n").length]).toEqual([0, 2]);
    expect(ended.stderr).toContain("stays: qedit did not download it");
    const left = (await readdir(tiny.home("data/models"), { recursive: true })).filter((name) => name.includes("."));
    expect(left).toEqual(["vae/tiny-vae.safetensors"]);
    expectRefusal(await qedit(["models", "rm", "tiny", "--yes"], tiny.at), {
      code: 3,
      message: /no file of it was downloaded by qedit/,
      hint: /./,
    });
  });

  test("rm clears what an interrupted download left", async () => {
    await using tiny = await hub("rm-part", { speed: 500_000 });
    await spawned(["models", "pull", "--yes"], {
      ...tiny.at,
      started: (child) => void signalAt(child, { signal: "SIGINT", folder: tiny.home(), bytes: 2 }),
    });
    expect((await qedit(["models", "rm", "tiny", "--yes"], tiny.at)).code).toBe(0);
    expect(
      (await readdir(tiny.home("data/models"), { recursive: true })).filter((name) => name.includes(".part")),
    ).toEqual([]);
  });

  test("path prints qedit's folder, a model's files, and where a named file lies", async () => {
    await using tiny = await hub("path");
    expect((await qedit(["models", "path"], tiny.at)).stdout).toBe(`${tiny.home("data/models")}\n`);
    expectRefusal(await qedit(["models", "path", "tiny"], tiny.at), {
      code: 3,
      message: /Cannot find tiny-vae\.safetensors/,
      hint: /qedit models pull tiny/,
    });
    await qedit(["models", "pull", "--yes"], tiny.at);
    expect((await qedit(["models", "path", "tiny"], tiny.at)).stdout).toBe(
      PULLED.map((path) => `${tiny.home(path)}\n`).join(""),
    );
    expect((await qedit(["models", "path", "tiny-vae.safetensors"], tiny.at)).stdout).toBe(
      `${tiny.home(PULLED[0]!)}\n`,
    );
  });
});

describe("a made-up ComfyUI tree", () => {
  test("is scanned, every file is named, and run uses it in place", async () => {
    await using tiny = await hub("tree");
    for (const [place, file] of [
      ["vae", "vae"],
      ["clip", "text-encoder"],
      ["unet", "transformer"],
      ["loras/mine", "loras/published"],
    ] as const) {
      await mkdir(tiny.home(`ComfyUI/models/${place}`), { recursive: true });
      await symlink(
        fixture(`tiny/${file}.safetensors`),
        tiny.home(`ComfyUI/models/${place}/tiny-${file.replace("loras/", "")}.safetensors`),
      );
    }
    await writeFile(tiny.home("ComfyUI/models/vae/old.ckpt"), "PK\u0003\u0004");
    const env = { ...tiny.at.env, QEDIT_MODELS: tiny.home("ComfyUI") };
    const { files } = JSON.parse((await qedit(["models", "scan", "--all", "--json"], { ...tiny.at, env })).stdout) as {
      files: { path: string; identity?: { kind: string }; models: string[]; refused?: string }[];
    };
    expect(
      files.map(({ path, identity, models, refused }) => [
        path.slice(tiny.home("ComfyUI/models/").length),
        identity?.kind,
        models[0],
        refused?.slice(0, 15),
      ]),
    ).toEqual([
      ["clip/tiny-text-encoder.safetensors", "text-encoder", "tiny", undefined],
      ["loras/mine/tiny-published.safetensors", "lora", "tiny lightning-4steps", undefined],
      ["unet/tiny-transformer.safetensors", "transformer", "tiny", undefined],
      ["vae/old.ckpt", undefined, undefined, "a Python pickle"],
      ["vae/tiny-vae.safetensors", "vae", "tiny", undefined],
    ]);
    const before = await readdir(tiny.home("ComfyUI"), { recursive: true });
    const ran = await qedit([...RUN, "--lora", "lightning-4steps", "-o", "comfy.png"], { ...tiny.at, env });
    expect([ran.code, ran.stdout]).toEqual([0, "comfy.png\n"]);
    expect(await readdir(tiny.home("ComfyUI"), { recursive: true })).toEqual(before);
    expect(existsSync(tiny.home("data/models"))).toBe(false);
  });
});

describe("the forms of a checkpoint", () => {
  test("give the same picture to the byte: one file, diffusers' folder, and shards", async () => {
    const model = folder.at("diffusers");
    const encoder = {
      ...Object.fromEntries(Object.entries(names["text-encoder-fp32"]).map(([theirs, ours]) => [ours, theirs])),
    };
    const vae = Object.fromEntries(Object.entries(names.vae).map(([theirs, ours]) => [ours, theirs]));
    for (const part of ["vae", "text_encoder", "transformer"]) await mkdir(join(model, part), { recursive: true });
    await rewritten(await readSafetensors(fixture("tiny/vae.safetensors")), {
      folder: join(model, "vae"),
      file: "diffusion_pytorch_model.safetensors",
      rename: vae,
      config: true,
    });
    await rewritten(await readSafetensors(fixture("tiny/text-encoder.safetensors")), {
      folder: join(model, "text_encoder"),
      file: "model.safetensors",
      rename: encoder,
      config: true,
      shards: 4,
    });
    await rewritten(await readSafetensors(fixture("tiny/transformer.safetensors")), {
      folder: join(model, "transformer"),
      file: "diffusion_pytorch_model.safetensors",
      config: true,
      shards: 2,
    });
    const single = [
      "--vae",
      fixture("tiny/vae.safetensors"),
      "--text-encoder",
      fixture("tiny/text-encoder.safetensors"),
      "--transformer",
      fixture("tiny/transformer.safetensors"),
    ];
    const forms = [
      single,
      [
        "--vae",
        join(model, "vae"),
        "--text-encoder",
        join(model, "text_encoder/model.safetensors.index.json"),
        "--transformer",
        model,
      ],
    ];
    const pixels = [];
    for (const [index, form] of forms.entries()) {
      const ended = await qedit(
        [...RUN, ...form, "--keep", folder.at(`kept-${index}`), "-o", `form-${index}.png`],
        here,
      );
      expect([ended.code, ended.stderr.includes("error")]).toEqual([0, false]);
      pixels.push(
        (await readSafetensors(folder.at(`kept-${index}/samples.safetensors`))).tensors.get("latent_tensor")!,
      );
    }
    const [one, other] = await Promise.all(
      pixels.map(async ({ file, offset, length }) => (await readFile(file)).subarray(offset, offset + length)),
    );
    expect(other!.equals(one!)).toBe(true);
  });

  test("that could run code are refused: pickles by their content, whatever their name", async () => {
    for (const name of ["model.ckpt", "model.pt", "renamed.safetensors"]) {
      await writeFile(folder.at(name), "PK\u0003\u0004\u0014\u0000\u0000\u0000\u0000\u0000archive/data.pkl");
      expectRefusal(await qedit([...RUN, "--vae", name, "--text-encoder", LORA, "--transformer", LORA], here), {
        code: 3,
        message: /a pickle, which can run any code when it is opened/,
        hint: /\.safetensors/,
      });
    }
  });
});
