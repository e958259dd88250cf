// The command line as a client of a real server: the same bytes and records as in its own process, by the socket that is found and by a URL.
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startServer, type TestServer } from "../support/server.js";
import { CAT, type Ended, expectRefusal, FILES, qedit, spawned, workFolder } from "./qedit.js";
import { here as calledHere, there as calledThere, jobsOf, SMALL } from "./there.js";

const folder = workFolder();
const RUN = ["run", CAT, "-p", "make it black and white", ...SMALL];
/** Seconds on any machine: to be stopped in. */
const LONG = ["run", CAT, "-p", "make it winter", "--model", "tiny", "--megapixels", "0.02", "--steps", "200"];

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.at("server"), args: ["--no-cache", "--max-queue", "3"] });
});
afterAll(() => server.stop("SIGKILL"));

const there = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> =>
  calledThere(args, { cwd: folder.path, server, env });
const byUrl = (args: readonly string[]): Promise<Ended> =>
  qedit([...args, "--server", server.url], { cwd: folder.path });
const here = (args: readonly string[]): Promise<Ended> => calledHere(args, folder.path);
const jobs = () => jobsOf(server);

function record({ stdout }: Ended): Record<string, unknown> {
  const { seconds, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  expect(Object.keys(seconds as object)).toEqual(["encode-image", "encode-prompt", "sample", "decode"]);
  return rest;
}

test("an edit has the bytes, the record and the events of one in its own process, and opens no model", async () => {
  const args = [...RUN, "--json", "-f", "-o", "one.png"];
  const own = await here([...args, "--events", "own.jsonl"]);
  const bytes = readFileSync(folder.at("one.png"));
  for (const call of [there, byUrl]) {
    const before = (await jobs()).length;
    const ended = await call([...args, "--events", "there.jsonl"]);
    expect(ended.code, ended.stderr).toBe(0);
    expect(readFileSync(folder.at("one.png")).equals(bytes)).toBe(true);
    expect(record(ended)).toEqual(record(own));
    expect((await jobs()).length).toBe(before + 1);
    const kinds = (name: string) =>
      readFileSync(folder.at(name), "utf8")
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ event }) => ["start", "step", "end", "drift"].includes(String(event)))
        .map(({ event, stage, step, total }) => [event, stage, step, total]);
    expect(kinds("there.jsonl")).toEqual(kinds("own.jsonl"));
  }
});

test("the recipe has the picture's name as in its own process, whatever characters it has", async () => {
  const name = "a\tb\\c\u0001.jpg";
  copyFileSync(CAT, folder.at(name));
  const args = ["run", name, ...RUN.slice(2), "-f", "-o", "named.png"];
  expect(await here(args)).toMatchObject({ code: 0 });
  const bytes = readFileSync(folder.at("named.png"));
  const before = (await jobs()).length;
  expect(await there(args)).toMatchObject({ code: 0 });
  expect((await jobs()).length).toBe(before + 1);
  expect(readFileSync(folder.at("named.png")).equals(bytes)).toBe(true);
});

describe("before anything is sent", () => {
  test.each([
    ["a file that is there", [...RUN, "-o", "taken.png"], 2, /taken\.png: it is there already/],
    ["a name of another format", [...RUN, "--format", "png", "-o", "out.jpg"], 2, /Cannot write out\.jpg as png/],
    [
      "options that contradict each other",
      [...RUN, "--fast", "4", "-o", "no.png"],
      2,
      /Cannot use --fast 4 and --steps 2/,
    ],
    [
      "a picture that is not there",
      ["run", "none.jpg", "-p", "x", ...SMALL, "-o", "no.png"],
      2,
      /there is no such file/,
    ],
    [
      "model files by paths",
      [...RUN, "--vae", FILES["--vae"], "-o", "no.png"],
      2,
      /Cannot use --vae .* path of this machine/,
    ],
    ["a LoRA by its path", [...RUN, "--lora", "./x.safetensors", "-o", "no.png"], 2, /Cannot use --lora \.\/x/],
    ["options of this process", [...RUN, "--threads", "2", "-o", "no.png"], 2, /Cannot use --threads with the server/],
    ["a folder of tensor files", [...RUN, "--keep", "kept", "-o", "no.png"], 2, /Cannot use --keep with the server/],
  ] as const)("%s is refused", async (_, args, code, message) => {
    writeFileSync(folder.at("taken.png"), "mine");
    const before = (await jobs()).length;
    expectRefusal(await byUrl(args), { code, message });
    expect((await jobs()).length).toBe(before);
    expect(folder.names()).not.toContain("no.png");
  });
});

test("what the server refuses is refused here, in the words of the command line", async () => {
  const ended = await byUrl([...RUN, "--steps", "300", "-o", "no.png", "--json"]);
  expectRefusal(ended, { code: 2, message: /Cannot take 300 steps: at most 200 are allowed/ });
  expect(JSON.parse(ended.stdout)).toMatchObject({ error: { code: "QEDIT_E_USAGE", exit: 2 } });
});

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)("%s cancels the job there and exits with %i", async (signal, code) => {
  const ended = await spawned([...LONG, "-o", "stopped.png", "--events", "stderr"], {
    cwd: folder.path,
    env: { QEDIT_SERVER: server.url },
    started(child) {
      child.stderr!.on("data", (part: Buffer) => {
        if (part.toString().includes('"event":"step"')) child.kill(signal);
      });
    },
  });
  expect(ended.code, ended.stderr).toBe(code);
  expect((await jobs())[0]!.state).toBe("cancelled");
  expect(folder.names()).not.toContain("stopped.png");
});
