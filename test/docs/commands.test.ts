// The commands of the documentation, typed as a new user would: each is run over dist with the tiny model, or named below with a reason.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ERRORS } from "../../src/edit/error-table.js";
import { fixture } from "../support/golden.js";
import { type Page, ROOT, readPages } from "./pages.js";

/** Commands that cannot be run here, or not to their end. */
const NOT_RUN: Readonly<
  Record<
    string,
    | "downloads"
    | "needs a GPU"
    | "needs a Kafka broker"
    | "needs the published model"
    | "serves until it is stopped"
    | "needs a server"
  >
> = {
  "qedit serve": "serves until it is stopped",
  'qedit run photo.jpg -p "make it winter" --seeds 1..4 --sheet sheet.png --server http://gpu:8000': "needs a server",
  'QEDIT_SERVER=https://gpu.example QEDIT_API_KEY=a-long-secret qedit run photo.jpg -p "make it winter" -o there.png':
    "needs a server",
  "qedit serve status": "needs a server",
  "qedit serve load qwen-image-edit-2509": "needs a server",
  "qedit serve unload": "needs a server",
  "qedit serve stop": "needs a server",
  "qedit serve --grpc 8001": "serves until it is stopped",
  "QEDIT_API_KEY=a-long-secret qedit serve --http none --grpc 0.0.0.0:8001": "serves until it is stopped",
  'QEDIT_REMOTE_KEY=a-long-secret qedit run photo.jpg -p "make it winter" --remote sample=grpc://gpu-host:8001':
    "needs a server",
  'qedit run photo.jpg -p "make it winter" --remote encode-prompt=grpc://gpu-1:8001,sample=grpc://gpu-1:8001,grpc://gpu-2:8001':
    "needs a server",
  'qedit run photo.jpg -p "make it winter" --remote sample=grpc://triton:8001,decode=grpc://gpu-1:8001':
    "needs a server",
  'qedit run photo.jpg -p "make it winter" --remote qedit=grpc://triton:8001': "needs a server",
  "qedit serve --remote sample=grpc://gpu-1:8001,grpc://gpu-2:8001": "serves until it is stopped",
  "QEDIT_API_KEY=a-long-secret qedit serve --http 0.0.0.0:8000": "serves until it is stopped",
  "qedit serve --kafka broker-1:9092,broker-2:9092 --store /shared/store": "needs a Kafka broker",
  "qedit work --kafka broker-1:9092,broker-2:9092 --store /shared/store --grace 10m": "needs a Kafka broker",
  "qedit work --kafka broker-1:9092,broker-2:9092 --store /shared/store --stages encode-image,decode":
    "needs a Kafka broker",
  "qedit work --kafka broker-1:9092,broker-2:9092 --store /shared/store --stages encode-prompt": "needs a Kafka broker",
  "qedit work --kafka broker-1:9092,broker-2:9092 --store /shared/store --stages sample --grace 10m":
    "needs a Kafka broker",
  "qedit kafka dlq list --kafka localhost:9092 --code QEDIT_E_MODEL_MISSING --since 2h": "needs a Kafka broker",
  "qedit kafka dlq show 0:12 --kafka localhost:9092": "needs a Kafka broker",
  "qedit kafka dlq redrive --since 2h --kafka localhost:9092": "needs a Kafka broker",
  "qedit submit jobs.jsonl --kafka localhost:9092 --store /shared/store --wait > results.jsonl": "needs a Kafka broker",
  "qedit submit jobs.jsonl --kafka localhost:9092 --store /shared/store --wait --resume": "needs a Kafka broker",
  "qedit kafka schemas register --schema-registry http://localhost:8081": "needs a Kafka broker",
  "qedit work --kafka localhost:9092 --store /shared/store --schema-registry http://localhost:8081":
    "needs a Kafka broker",
  "qedit submit jobs.jsonl --kafka localhost:9092 --store /shared/store --schema-registry http://localhost:8081 --wait":
    "needs a Kafka broker",
  "qedit kafka topics create --kafka localhost:9092": "needs a Kafka broker",
  "qedit kafka topics describe --kafka localhost:9092": "needs a Kafka broker",
  "npx qedit models pull --preset fast-4": "downloads",
  "qedit models pull --preset fast-4": "downloads",
  "npx qedit setup --libraries": "downloads",
  "qedit setup --libraries": "downloads",
  "qedit doctor --device cuda": "needs a GPU",
  "qedit export triton repository/ --fast 4 --device cuda --images 1": "needs the published model",
  "qedit export triton repository/ --model qwen-image-2.1 --device cuda --images 4": "needs the published model",
  'qedit run photo.jpg -p "make it winter" --device cuda': "needs a GPU",
  'qedit run photo.jpg -p "make it winter" --quality -o best.png': "needs the published model",
  'qedit run photo.jpg -p "make it winter" --model qwen-image-edit-2511': "needs the published model",
  'qedit run -p "a red bicycle in the snow, transparent background" --model qwen-image-2.1 --size 1024x1024 -o bicycle.png':
    "needs the published model",
  'qedit run person.jpg hat.png -p "put the hat of <image2> on the person" --model qwen-image-2.1-turbo':
    "needs the published model",
  'qedit run photo.jpg -p "make it winter" --model ./my-model/ -o diffusers.png': "needs the published model",
  'qedit run photo.jpg -p "make it winter" --vae vae.safetensors --transformer finetune.safetensors.index.json -o own.png':
    "needs the published model",
  'qedit run photo.jpg -p "make it winter" --lora style.safetensors:0.8 --strict-lora -o styled.png':
    "needs the published model",
};

const pages = readPages();
const folder = mkdtempSync(join(tmpdir(), "qedit-docs-"));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Other work beside, as in a whole run of tests, takes its share of the cores. */
const MOST_MILLISECONDS = 300_000;

/** Where a command is typed, and where its qedit keeps settings and results. */
interface Place {
  readonly cwd: string;
  readonly home: string;
}

const shared = join(folder, "home");

// Most pages edit one picture by one prompt: what is encoded once need not be encoded again.
beforeAll(async () => {
  mkdirSync(join(shared, "ComfyUI", "models"), { recursive: true });
  await check('qedit run photo.jpg -p "make it winter"', { home: shared, cwd: newUsersFolder(join(folder, "before")) });
}, MOST_MILLISECONDS);

describe.concurrent("commands of the documentation do what they say", () => {
  test.for(pages.filter(({ blocks }) => blocks.flat().some(isOurs)).map((page) => [page.name, page] as const))(
    "%s",
    { timeout: MOST_MILLISECONDS },
    async ([, { name, blocks }]) => {
      const own = join(folder, name.replaceAll("/", "-"));
      const home = blocks.flat().includes("qedit cache clear") ? join(own, "home") : shared;
      for (const [index, commands] of blocks.entries()) {
        const place = { home, cwd: newUsersFolder(join(own, `block-${index}`)) };
        for (const command of commands.filter(isOurs)) await check(command, place);
      }
    },
  );
});

test("every command that is not run is in the documentation", () => {
  const commands = new Set(pages.flatMap(({ blocks }: Page) => blocks.flat()));
  expect(Object.keys(NOT_RUN).filter((command) => !commands.has(command))).toEqual([]);
});

test("npm scripts of the documentation exist", () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { scripts: object };
  const named = pages.flatMap(({ text }) => [...text.matchAll(/\bnpm run ([\w:-]+)/g)].map((match) => match[1]!));
  expect(named.filter((script) => !(script in scripts))).toEqual([]);
});

function isOurs(command: string): boolean {
  return /(^|[\s(])qedit /.test(command) && !command.startsWith("kubectl ");
}

async function check(command: string, place: Place): Promise<void> {
  const reason = NOT_RUN[command];
  // Whatever keeps it from its end, its options are read: pages.test.ts holds the flags to those of the command.
  const isPublished = reason === "needs the published model";
  const typed = reason === undefined || isPublished ? command : `${command} --help`;
  const { code, stderr } = await typedByUser(typed, place, isPublished ? {} : smallEdits(command));
  expect(code, `${command}\n${stderr}`).toBe(isPublished ? ERRORS.QEDIT_E_MODEL_MISSING.exit : 0);
  if (isPublished) expect(stderr, command).toContain('"code":"QEDIT_E_MODEL_MISSING"');
}

// The tiny model and few pixels stand for what the user has; a size that the command names is its own.
function smallEdits(command: string): Record<string, string> {
  const isSized = /--(size|megapixels)\b/.test(command);
  return { QEDIT_MODEL: "tiny", QEDIT_THREADS: "1", ...(isSized ? {} : { QEDIT_MEGAPIXELS: "0.005" }) };
}

async function typedByUser(command: string, { cwd, home }: Place, settings: Readonly<Record<string, string>>) {
  const shell = [
    "set -o pipefail",
    `qedit() { "${process.execPath}" "${join(ROOT, "bin/qedit.js")}" "$@"; }`,
    'npx() { "$@"; }',
    // Built before, for all tests.
    "npm() { :; }",
    command,
  ].join("\n");
  const child = spawn("bash", ["-c", shell], {
    cwd,
    env: {
      ...{ PATH: process.env["PATH"]!, HOME: home, QEDIT_HOME: join(home, "qedit") },
      ...(settings["QEDIT_MODEL"] === undefined ? { QEDIT_EVENTS: "stderr" } : {}),
      ...settings,
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const [stderr] = await Promise.all([text(child.stderr), once(child, "close")]);
  return { code: child.exitCode, stderr };
}

// What the pages take for granted: a clone's fixtures, and files under the names that they use.
function newUsersFolder(cwd: string): string {
  const image = (name: string) => fixture(`images/${name}.jpg`);
  mkdirSync(join(cwd, "photos"), { recursive: true });
  for (const [name, source] of [
    ["photo.jpg", image("cat")],
    ["person.jpg", image("astronaut")],
    ["hat.png", fixture("images/encodings/rgb.png")],
    ["photos/cat.jpg", image("cat")],
    ["photos/rocket.jpg", image("rocket")],
    ["mask.png", image("cat")],
    ["fixtures/images/cat.jpg", image("cat")],
    ["fixtures/images/astronaut.jpg", image("astronaut")],
    ["fixtures/images/rocket.jpg", image("rocket")],
    ["fixtures/tiny-model/examples.jsonl", fixture("tiny-model/examples.jsonl")],
    ["fixtures/tiny-model/tiny_edit_fp8_e4m3fn.safetensors", fixture("tiny-model/tiny_edit_fp8_e4m3fn.safetensors")],
  ] as const)
    cpSync(source, join(cwd, name));
  writeFileSync(join(cwd, "prompt.txt"), "make it winter\n");
  const jobs = ["sepia", "winter"].map((look) =>
    JSON.stringify({ images: ["photo.jpg"], prompt: `make it ${look}`, output: `${look}.png` }),
  );
  writeFileSync(join(cwd, "jobs.jsonl"), `${jobs.join("\n")}\n`);
  return cwd;
}
