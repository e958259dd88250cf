// What qedit says while it works, and how: events, levels, colours, motion on a terminal, explanations, and how soon it answers.
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { describe, expect, test } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { hasColor, hasMotion } from "../../src/cli/render/style.js";
import { ERRORS } from "../../src/edit/error-table.js";
import { ERROR_CODES } from "../../src/std/errors.js";
import { CAT, inTerminal, models, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const RUN = [
  "run",
  CAT,
  "-p",
  "make it red",
  ...models(),
  ...QUICK,
  "--megapixels",
  "0.003",
  "--steps",
  "2",
  "--cfg",
  "1",
];
const ESCAPE = /\u001b\[/;

const lines = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("--events", () => {
  test("on stderr is NDJSON and nothing else, with stages, steps, seconds left and memory", async () => {
    const { code, stderr, stdout } = await qedit([...RUN, "--events", "stderr", "-o", "events.png"], here);
    expect([code, stdout]).toEqual([0, "events.png\n"]);
    const events = lines(stderr);
    expect(events.filter(({ event }) => event === "start").map(({ stage }) => stage)).toEqual([
      "encode-image",
      "encode-prompt",
      "sample",
      "decode",
    ]);
    expect(
      events.filter(({ event }) => event === "step").map(({ step, total }) => `${String(step)}/${String(total)}`),
    ).toEqual(["0/2", "1/2", "2/2"]);
    expect(events.find(({ event, step }) => event === "step" && step === 1)).toMatchObject({
      stage: "sample",
      seconds: expect.any(Number),
      eta: expect.any(Number),
      memory: expect.any(Number),
    });
  });

  test("in a file leaves stderr to people", async () => {
    const { stderr } = await qedit([...RUN, "--events", "log.ndjson", "-o", "logged.png"], here);
    expect(stderr).toMatch(/→ output/);
    expect(
      lines(await readFile(folder.at("log.ndjson"), "utf8")).findLast(({ event }) => event === "end"),
    ).toMatchObject({ stage: "decode" });
  });

  test("end with the error, its code, hint and exit status", async () => {
    const { code, stderr } = await qedit(
      ["run", "missing.jpg", "-p", "x", ...models(), ...QUICK, "--events", "stderr"],
      here,
    );
    expect(lines(stderr).at(-1)).toMatchObject({
      event: "error",
      code: "QEDIT_E_IMAGE",
      message: expect.stringContaining("missing.jpg"),
      hint: expect.any(String),
      exit: code,
    });
  });
});

describe("levels", () => {
  test("-v names the files, and each stage's time and memory", async () => {
    const { stderr } = await qedit([...RUN, "-v", "-o", "verbose.png"], here);
    expect(stderr).toMatch(/^vae: .*vae\.safetensors$/m);
    expect(stderr).toMatch(/^sample: \d+\.\d\d s, \d+(\.\d)? MB resident$/m);
  });

  test("-q leaves only the result", async () => {
    expect(await qedit([...RUN, "-q", "-o", "quiet.png"], here)).toMatchObject({ stdout: "quiet.png\n", stderr: "" });
  });
});

test("more threads than the machine runs at once are warned of", async () => {
  const cores = availableParallelism();
  const warnings = async (threads: number) =>
    (await qedit([...RUN, "--threads", String(threads), "-o", `threads-${threads}.png`], here)).stderr
      .split("\n")
      .filter((line) => line.startsWith("warning: "));
  expect(await warnings(cores + 1)).toEqual([
    `warning: --threads ${cores + 1} is slower than all cores: this machine runs ${cores} at once`,
  ]);
  expect(await warnings(cores)).toEqual([]);
});

describe("on a terminal", () => {
  test("stages and steps move, and end in one line each", async () => {
    const terminal = inTerminal([...RUN, "-o", "moving.png"], here);
    expect(await terminal.ended).toBe(0);
    const shown = terminal.shown();
    for (const stage of ["encode-image", "encode-prompt", "sample", "decode"])
      expect(shown).toMatch(new RegExp(`✔.* ${stage} \\d+\\.\\d s`));
    expect(shown).toMatch(/sample \[.*\] \d\/2/);
    expect(shown).toContain("moving.png");
  });

  test.each([
    ["TERM=dumb", { TERM: "dumb" }, []],
    ["CI with --no-color", { CI: "true" }, ["--no-color"]],
  ])("nothing moves and nothing is coloured with %s", async (name, env, more) => {
    const terminal = inTerminal([...RUN, ...more, "-o", `${name.slice(0, 2)}.png`], { ...here, env });
    expect(await terminal.ended).toBe(0);
    expect(terminal.shown()).not.toMatch(ESCAPE);
  });

  test("Ctrl-C stops with 130 and leaves nothing half done", async () => {
    const terminal = inTerminal([...RUN, "--steps", "5000", "-o", "stopped.png"], here);
    await expect.poll(() => terminal.shown(), { timeout: 60_000, interval: 50 }).toMatch(/\[.*\] [1-9]\d*\/5000/);
    terminal.type("\u0003");
    expect(await terminal.ended).toBe(130);
    // What it wrote last may come after its end.
    await expect.poll(terminal.shown, { timeout: 30_000 }).toMatch(/error:\S* Stopped/);
    expect(folder.names().filter((name) => name.includes("stopped"))).toEqual([]);
  });
});

describe("colours", () => {
  const terminal = { isTTY: true, columns: 80 } as const;
  const pipe = { isTTY: false, columns: 0 } as unknown as typeof terminal;
  test.each([
    ["a terminal", terminal, {}, undefined, true],
    ["a pipe", pipe, {}, undefined, false],
    ["NO_COLOR", terminal, { NO_COLOR: "1" }, undefined, false],
    ["an empty NO_COLOR", terminal, { NO_COLOR: "" }, undefined, true],
    ["TERM=dumb", terminal, { TERM: "dumb" }, undefined, false],
    ["FORCE_COLOR in a pipe", pipe, { FORCE_COLOR: "1" }, undefined, true],
    ["FORCE_COLOR over NO_COLOR", pipe, { FORCE_COLOR: "1", NO_COLOR: "1" }, undefined, true],
    ["FORCE_COLOR=0", terminal, { FORCE_COLOR: "0" }, undefined, false],
    ["--no-color over FORCE_COLOR", terminal, { FORCE_COLOR: "1" }, false, false],
  ])("of %s", (_, stream, env, color, wanted) => {
    expect(hasColor(stream, { env, color })).toBe(wanted);
  });

  test.each([
    [terminal, {}, true],
    [terminal, { CI: "true" }, false],
    [terminal, { CI: "0" }, true],
    [terminal, { TERM: "dumb" }, false],
    [{ ...terminal, columns: 0 }, {}, false],
    [pipe, {}, false],
  ])("motion %#", (stream, env, wanted) => {
    expect(hasMotion(stream, { env })).toBe(wanted);
  });

  test("FORCE_COLOR paints the word error in a pipe", async () => {
    const { stderr } = await qedit(["run", "missing.jpg", "-p", "x", ...models()], {
      ...here,
      env: { FORCE_COLOR: "1" },
    });
    expect(stderr).toContain("\u001b[31merror:\u001b[39m Cannot read missing.jpg");
  });
});

describe("explain", () => {
  test("knows every code, and every code has causes and a remedy", async () => {
    expect(Object.keys(ERRORS).sort()).toEqual([...ERROR_CODES].sort());
    for (const { meaning, causes, remedy } of Object.values(ERRORS))
      expect([meaning.length, causes.length, remedy.length].every((length) => length > 0)).toBe(true);
    const { stdout } = await qedit(["explain"], here);
    for (const [code, { exit }] of Object.entries(ERRORS))
      expect(stdout).toMatch(new RegExp(`^${code} +exit ${exit} `, "m"));
  });

  test.each(["QEDIT_E_MEMORY", "memory", "e_memory"])("takes %s", async (code) => {
    const { stdout } = await qedit(["explain", code], here);
    expect(stdout).toMatch(/^QEDIT_E_MEMORY {2}exit 4\n/);
  });

  test("refuses what is no code", async () => {
    expect(await qedit(["explain", "QEDIT_E_NOTHING"], here)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("`qedit explain` lists all codes"),
    });
  });
});

describe("how soon it answers", () => {
  // Processor time, for other processes share the machine, and as a multiple of what Node's own start takes in the same moment, for they
  // also slow each other down: the best of several.
  const PROBE = `data:text/javascript,${encodeURIComponent("process.on('exit', () => { const { user, system } = process.cpuUsage(); process._rawDebug('SPENT ' + (user + system) / 1000); });")}`;
  const spent = (args: readonly string[]) => {
    const { stderr } = spawnSync(process.execPath, ["--import", PROBE, ...args], { cwd: folder.path });
    return Number(/SPENT ([\d.]+)/.exec(stderr.toString())![1]);
  };
  const bin = new URL("../../bin/qedit.js", import.meta.url).pathname;

  test.each([
    [["--version"], 1.7],
    [["--help"], 2.5],
  ])("%j takes at most so many times what Node takes to start: %d", (args, most) => {
    const pairs = Array.from({ length: 9 }, () => [spent(["-e", "0"]), spent([bin, ...args])] as const);
    const [node, qedit] = [0, 1].map((index) => Math.min(...pairs.map((pair) => pair[index]!)));
    expect(qedit! / node!).toBeLessThan(most);
  });

  test("the version is that of the package", async () => {
    expect((await qedit(["-V"], here)).stdout).toBe(`${packageJson.version}\n`);
  });
});
