// Completion: what is suggested, and the scripts in the shells that are here.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { spawn as spawnTerminal } from "@lydell/node-pty";
import { beforeAll, describe, expect, test } from "vitest";
import { qedit, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path };
const BIN = fileURLToPath(new URL("../../bin/qedit.js", import.meta.url));
const env = { PATH: `${folder.at("bin")}:${process.env["PATH"]}`, HOME: folder.path, TERM: "xterm", PS1: "$ " };

/** Whether a shell is on this machine. */
const has = (name: string) => spawnSync(name, ["-c", "exit 0"]).status === 0;

beforeAll(() => {
  mkdirSync(folder.at("bin"));
  mkdirSync(folder.at("files"));
  writeFileSync(folder.at("bin/qedit"), `#!/bin/sh\nexec "${process.execPath}" "${BIN}" "$@"\n`);
  chmodSync(folder.at("bin/qedit"), 0o755);
  writeFileSync(folder.at("files/mypic.png"), "");
});

test("suggests commands, options and choices from the command tree", async () => {
  expect((await qedit(["complete", "--", "enc"], here)).stdout).toMatch(/^encode-image\t.+\nencode-prompt\t.+\n:4\n$/);
  expect((await qedit(["complete", "--", "run", "--sam"], here)).stdout).toMatch(/^--sampler\t.+\n:4\n$/);
  expect((await qedit(["complete", "--", "run", "--scheduler", "s"], here)).stdout).toMatch(
    /^simple\t\nsgm_uniform\t\n:4\n$/,
  );
  expect((await qedit(["complete", "--", "run", ""], here)).stdout).toBe(":0\n");
});

test.each(["bash", "zsh", "fish", "powershell"])("prints a script for %s", async (shellName) => {
  const { code, stdout } = await spawned(["completion", shellName], here);
  expect(code).toBe(0);
  expect(stdout).toMatch(/complete.*--/);
  // The shells that are here say whether they can read it.
  const script = folder.at(`completion.${shellName}`);
  writeFileSync(script, stdout);
  const check = spawnSync(shellName, [shellName === "fish" ? "--no-execute" : "-n", script]);
  if (check.error === undefined) expect([check.status, check.stderr.toString()]).toEqual([0, ""]);
});

test.each(["bash", "fish"])("with --json the script of %s is in one object", async (shellName) => {
  const { stdout } = await qedit(["completion", shellName, "--json"], here);
  const script = (await qedit(["completion", shellName], here)).stdout.trimEnd();
  expect(JSON.parse(stdout)).toEqual({ shell: shellName, script: expect.stringContaining(script) });
});

describe.runIf(has("bash"))("in bash", () => {
  // What bash would hand over for a line, whose words it has split as COMP_WORDBREAKS says; prints COMPREPLY.
  const offered = (words: readonly string[], line = words.join(" "), after = "") => {
    const script = [
      "source <(qedit completion bash); source <(qedit completion bash)",
      'COMP_LINE=$1 COMP_POINT=$2; shift 2; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))',
      `_qedit qedit; printf "%s\\n" "\${COMPREPLY[@]}"`,
    ].join("\n");
    const args = ["--norc", "-c", script, "bash", `${line}${after}`, String(line.length), ...words];
    const { stdout, stderr } = spawnSync("bash", args, { cwd: folder.at("files"), env });
    return { words: stdout.toString().trim().split("\n"), stderr: stderr.toString() };
  };

  // compopt works within a completion alone, and says so.
  const OUTSIDE = /^(.*compopt: not currently executing completion function\n)?$/;

  test.each([
    [["qedit", "enc"], undefined, ["encode-image", "encode-prompt"]],
    [["qedit", "run", "--sampl"], undefined, ["--sampler"]],
    [["qedit", "run", "--scheduler", "=", "s"], "qedit run --scheduler=s", ["simple", "sgm_uniform"]],
    [["qedit", "run", "--scheduler", "="], "qedit run --scheduler=", expect.arrayContaining(["simple", "karras"])],
    [["qedit", "run", "--scheduler=s"], "qedit run --scheduler=s", ["--scheduler=simple", "--scheduler=sgm_uniform"]],
    [["qedit", "run", "a", ":", "b", "--samp"], "qedit run a:b --samp", ["--sampler"]],
    [["qedit", "run", "$(touch PWNED)", '"`touch PWNED`"', "--sampl"], undefined, ["--sampler"]],
    [["qedit", "run", "my"], undefined, [""]],
    [["qedit", "nope"], undefined, [""]],
  ])("%j is completed without other packages, evaluating nothing, sourced twice", (words, line, wanted) => {
    const found = offered(words, line);
    expect(found.words).toEqual(wanted);
    expect(found.stderr).toMatch(OUTSIDE);
    expect(readdirSync(folder.at("files"))).toEqual(["mypic.png"]);
  });

  test("what stands behind the cursor is not completed", () => {
    expect(offered(["qedit", "run", "--samplXY"], "qedit run --sampl", "XY -p x").words).toEqual(["--sampler"]);
  });
});

describe.each([
  ["bash", ["--norc", "-i"], ""],
  // Its own binding of TAB, expand-or-complete, runs what is typed, whatever the script.
  ["zsh", ["-f", "-i"], "bindkey '^I' complete-word; autoload -U compinit; compinit -u -D;"],
])("at the prompt of %s", (shellName, args, prepare) => {
  test.runIf(has(shellName))("options, choices and files are completed, and what is typed is not run", async () => {
    const shell = spawnTerminal(shellName, args, { cols: 100, rows: 30, cwd: folder.at("files"), env });
    let shown = "";
    shell.onData((part) => (shown += part));
    const seen = async (text: string) => {
      for (let waited = 0; !shown.includes(text) && waited < 10_000; waited += 50) await delay(50);
      expect(shown).toContain(text);
    };
    shell.write(`${prepare} source <(qedit completion ${shellName}); echo "rea"dy\r`);
    await seen("ready");
    for (const [typed, wanted] of [
      ["qedit run my", "qedit run mypic.png"],
      ["qedit run --mask=my", "--mask=mypic.png"],
      ["qedit run -o my", "-o mypic.png"],
      ["qedit run --scheduler=si", "--scheduler=simple"],
      ['qedit run -p "$(touch PWNED)" --sampl', "--sampler"],
      // Nothing is offered for an option that is not known: the bell.
      ["qedit run --x$(:>PWNED)=s", "\u0007"],
      ["qedit ins", "qedit inspect"],
    ] as const) {
      shown = "";
      shell.write(`${typed}\t`);
      await seen(wanted);
      shell.write("\u0015");
    }
    shell.kill();
    expect(existsSync(folder.at("files/PWNED"))).toBe(false);
    expect(existsSync(folder.at("files/mypic.png"))).toBe(true);
  });
});
