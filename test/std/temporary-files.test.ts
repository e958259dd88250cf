// Temporary files: names that nobody can take before, and what killed processes left.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, symlinkSync, utimesSync } from "node:fs";
import { basename } from "node:path";
import { expect, test, vi } from "vitest";
import { writeFileAtomically } from "../../src/std/files.js";
import { forgetTemporaryFile, isRunning, removeLeftovers, temporaryPath } from "../../src/std/temporary-files.js";
import { temporaryFolder } from "../support/folder.js";
import { leftover, NO_PROCESS } from "../support/leftovers.js";

const folder = temporaryFolder();

test("two temporary files of one process have names that do not follow from each other", () => {
  const paths = [temporaryPath(folder.at(".")), temporaryPath(folder.at("."))];
  paths.forEach(forgetTemporaryFile);
  const parts = paths.map((path) => /^\.qedit-[0-9a-f]{8}-(\d+)-([0-9a-f]{16})\.tmp$/.exec(basename(path))!);
  expect(parts.map(([, pid]) => Number(pid))).toEqual([process.pid, process.pid]);
  expect(parts[0]![2]).not.toBe(parts[1]![2]);
});

test("what an ended process left is removed by the next write to its folder", async () => {
  folder.write(`next/${leftover(NO_PROCESS)}`, "half");
  await writeFileAtomically(folder.at("next/file"), Buffer.from("whole"));
  expect(readdirSync(folder.at("next"))).toEqual(["file"]);
});

test.each([
  ["a running process", leftover(process.ppid), false],
  ["another machine, just written,", leftover(NO_PROCESS, "00000000"), false],
  ["another machine, two days old,", leftover(NO_PROCESS, "11111111"), true],
])("the temporary file of %s goes: %s %s", async (which, name, isRemoved) => {
  const path = folder.write(`${which}/${name}`, "half");
  const twoDaysAgo = Date.now() / 1000 - 2 * 24 * 3600;
  if (which.includes("two days")) utimesSync(path, twoDaysAgo, twoDaysAgo);
  await removeLeftovers(folder.at(which));
  expect(existsSync(path)).toBe(!isRemoved);
});

test("files with other names stay, and so does a link", async () => {
  const kept = folder.write("others/.qedit-notes.tmp", "mine");
  symlinkSync(kept, folder.at(`others/${leftover(NO_PROCESS)}`));
  await removeLeftovers(folder.at("others"));
  expect(readdirSync(folder.at("others"))).toHaveLength(2);
});

test.runIf(process.platform === "linux")(
  "a process that has ended does not run, also before its parent has asked for its status",
  async () => {
    // The shell's child ends, and what the shell has become never asks.
    const parent = spawn("sh", ["-c", "sleep 0.3 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "ignore"] });
    try {
      const [line] = (await once(parent.stdout, "data")) as [Buffer];
      const pid = Number(String(line).trim());
      await vi.waitFor(() => expect(readFileSync(`/proc/${pid}/stat`, "latin1")).toContain(") Z "));
      expect([isRunning(pid), isRunning(parent.pid!), isRunning(process.pid)]).toEqual([false, true, true]);
    } finally {
      parent.kill("SIGKILL");
    }
  },
);
