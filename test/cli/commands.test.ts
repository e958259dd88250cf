// Every command once as users have it: a process of its own, over dist.
import { copyFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import { COMMANDS } from "../../src/cli/commands.js";
import { TINY, writeJobs } from "./jobs.js";
import { CAT, models, QUICK, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
// Files that one command writes and a later one reads are remembered in one place.
const here = { cwd: folder.path, env: { QEDIT_HOME: folder.at("home") } };
const EDIT = ["cat.jpg", "-p", "make it red", ...TINY];

/** A call of each command that ends with 0, in an order in which each finds what it reads; and a line of what it prints. */
const CALLS: Readonly<Record<string, readonly [args: readonly string[], stdout: RegExp]>> = {
  run: [[...EDIT, "-o", "red.png"], /^red\.png$/m],
  each: [["cat.jpg", "-p", "x", ...TINY, "-o", "each/"], /^each\/cat/m],
  batch: [["jobs.jsonl", ...TINY], /"status":"done"/],
  rerun: [["red.png", ...models(), ...QUICK, "-o", "again.png"], /^again\.png$/m],
  diff: [["red.png", "again.png"], /./],
  inspect: [["red.png"], /make it red/],
  plan: [EDIT, /^Memory/m],
  // What needs a broker has tests of its own.
  work: [["--help"], /--kafka/],
  submit: [["--help"], /--wait/],
  kafka: [["schemas", "print"], /"RunRequest"/],
  "encode-image": [
    ["cat.jpg", ...models({}, ["--vae"]), ...QUICK, "--size", "48x32", "-o", "latents.safetensors"],
    /^latents\.safetensors$/m,
  ],
  "encode-prompt": [
    ["-p", "x", ...models({}, ["--text-encoder"]), ...QUICK, "-o", "cond.safetensors"],
    /^cond\.safetensors$/m,
  ],
  sample: [
    [
      ...["--latents", "latents.safetensors", "--cond", "cond.safetensors", ...models({}, ["--transformer"])],
      ...[...QUICK, "--steps", "1", "--cfg", "1", "-o", "samples.safetensors"],
    ],
    /^samples\.safetensors$/m,
  ],
  decode: [["samples.safetensors", ...models({}, ["--vae"]), ...QUICK, "-o", "decoded.png"], /^decoded\.png$/m],
  serve: [["--help"], /^Usage: qedit serve/m],
  // Without a client it ends at once, and stdout is the protocol's.
  mcp: [["--model", "tiny"], /^$/],
  export: [["triton", "repository", "--model", "tiny", "--device", "cpu", "--images", "1"], /qedit_1 for cpu/],
  models: [["list"], /qwen-image-edit-2509/],
  cache: [["path"], /home/],
  config: [[], /./],
  setup: [["--help"], /^Usage: qedit setup/m],
  doctor: [["--device", "cpu"], /^✔ Edits compute on cpu$/m],
  explain: [["QEDIT_E_MEMORY"], /^QEDIT_E_MEMORY/],
  completion: [["bash"], /complete/],
};

beforeAll(() => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  writeJobs(folder.at("jobs.jsonl"), [{ images: ["cat.jpg"], prompt: "x", output: "batch.png" }]);
});

test("every command is called here", () => {
  expect(Object.keys(CALLS).sort()).toEqual(COMMANDS.map(({ name }) => name).sort());
});

test.each(Object.entries(CALLS))(
  "%s works from the package, and its process ends by itself",
  async (name, [args, stdout]) => {
    const ended = await spawned([name, ...args], here);
    expect([ended.code, ended.signal], ended.stderr).toEqual([0, null]);
    expect(ended.stdout).toMatch(stdout);
  },
);
