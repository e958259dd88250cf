// A batch: one load of each network for many jobs, jobs that fail alone, and a stop at any moment that --resume makes good.

import type { ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import sharp from "sharp";
import { beforeAll, describe, expect, test } from "vitest";
import { done, jsonLines, loads, ONCE, type Result, TINY, writeJobs } from "./jobs.js";
import { CAT, expectRefusal, LORA, qedit, ROCKET, shell, spawned, workFolder } from "./qedit.js";

const folder = workFolder();
const here = { cwd: folder.path, env: { XDG_STATE_HOME: folder.at("state") } };

const MANY = 30;
/** So many edits on a busy machine: milliseconds. */
const SLOW = 240_000;

beforeAll(async () => {
  copyFileSync(CAT, folder.at("cat.jpg"));
  copyFileSync(ROCKET, folder.at("rocket.jpg"));
});

const jobs = (count: number, place: string) =>
  Array.from({ length: count }, (_, index) => ({
    images: ["cat.jpg"],
    prompt: "make it red",
    output: `${place}/${index + 1}.png`,
    seed: index,
  }));
const statuses = (stdout: string) =>
  Object.fromEntries(jsonLines<Result>(stdout).map(({ job, status }) => [job, status]));

async function expectWhole(place: string, count: number): Promise<void> {
  const names = readdirSync(folder.at(place));
  expect(names.filter((name) => !name.endsWith(".png"))).toEqual([]);
  expect(names).toHaveLength(count);
  for (const name of names) expect((await sharp(folder.at(`${place}/${name}`)).stats()).channels).toHaveLength(3);
}

describe("many jobs", () => {
  test(
    "cost one load of each network when all fit into memory, job by job",
    async () => {
      writeJobs(folder.at("many.jsonl"), jobs(MANY, "many"));
      const { stdout, stderr } = await done(
        ["batch", "many.jsonl", ...TINY, "--events", "many.ndjson", "--verbose"],
        here,
      );
      expect(stderr).toMatch(/: job by job, 5 loads at most$/m);
      expect(loads(folder.at("many.ndjson"))).toEqual(ONCE);
      expect(Object.values(statuses(stdout))).toEqual(Array(MANY).fill("done"));
      await expectWhole("many", MANY);
    },
    SLOW,
  );

  test(
    "cost one load of each network in little memory, stage by stage, and give the same pictures",
    async () => {
      writeJobs(folder.at("staged.jsonl"), jobs(MANY, "staged"));
      const { stderr } = await done(
        ["batch", "staged.jsonl", ...TINY, "--memory", "1M", "--no-cache", "--events", "staged.ndjson", "--verbose"],
        here,
      );
      expect(stderr).toMatch(/: stage by stage, 5 loads at most$/m);
      expect(loads(folder.at("staged.ndjson"))).toEqual(ONCE);
      for (const index of [1, MANY / 2, MANY])
        expect(
          readFileSync(folder.at(`staged/${index}.png`)).equals(readFileSync(folder.at(`many/${index}.png`))),
        ).toBe(true);
    },
    SLOW,
  );
});

test(
  "jobs with different LoRAs are grouped, so that each transformer is opened once",
  async () => {
    const mixed = jobs(6, "mixed").map((job, index) =>
      index % 2 === 0 ? job : { ...job, lora: [`${LORA}:0.${index}`] },
    );
    writeJobs(folder.at("mixed.jsonl"), mixed);
    await done(["batch", "mixed.jsonl", ...TINY, "--memory", "1M", "--events", "mixed.ndjson"], here);
    expect(loads(folder.at("mixed.ndjson"))).toEqual({ ...ONCE, transformer: 2 });
  },
  SLOW,
);

describe("kill -9 in the middle", () => {
  test.each([
    ["job by job", "killed", []],
    ["stage by stage", "killed-staged", ["--memory", "1M"]],
  ])(
    "of a batch %s leaves no torn file, and --resume does the rest and no job twice",
    async (_order, place, options) => {
      writeJobs(folder.at(`${place}.jsonl`), jobs(12, place));
      const args = ["batch", `${place}.jsonl`, ...TINY, ...options];
      const env = { ...here.env, XDG_CACHE_HOME: folder.at(`${place}-cache`) };
      const killAt = (lines: number) => (child: ChildProcess) => {
        let text = "";
        child.stdout!.on("data", (part: Buffer) => {
          text += part.toString();
          if (text.split("\n").length > lines) child.kill("SIGKILL");
        });
      };
      const killed = await spawned(args, { ...here, env, started: killAt(3) });
      expect(killed.signal).toBe("SIGKILL");
      const made = readdirSync(folder.at(place)).filter((name) => !name.startsWith("."));
      expect(made.length).toBeGreaterThanOrEqual(3);
      for (const name of made) await sharp(folder.at(`${place}/${name}`)).stats();

      const resumed = await done([...args, "--resume"], { ...here, env });
      const results = jsonLines<Result>(resumed.stdout);
      expect(results).toHaveLength(12);
      expect(
        results
          .filter(({ status }) => status === "skipped")
          .map(({ output }) => output!.split("/")[1])
          .sort(),
      ).toEqual(made.sort());
      await expectWhole(place, 12);
      expect(Object.values(statuses((await done([...args, "--resume"], here)).stdout))).toEqual(
        Array(12).fill("skipped"),
      );
    },
    SLOW,
  );
});

describe("a job that fails", () => {
  const written = [
    '{"images": ["cat.jpg"], "prompt": "make it red", "output": "some/1.png"}',
    "",
    '{"images": ["cat.jpg"], "prompt": "make it red", "output": "some/2.png", "stesp": 4}',
    '{"images": ["missing.jpg"], "prompt": "make it red", "output": "some/3.png"}',
    "not json",
    '{"images": [], "prompt": "make it red", "output": "some/5.png"}',
    '{"images": ["cat.jpg"], "output": "some/6.png"}',
    '{"images": ["cat.jpg"], "prompt": "x", "output": "some/7.png", "steps": 0}',
    '{"images": ["cat.jpg"], "prompt": "x", "output": "some/8.png", "device": "cpu"}',
    '{"images": ["cat.jpg"], "prompt": "x", "output": "some/9.png", "seed": 12345678901234567890}',
    '{"images": ["cat.jpg"], "prompt": "x", "output": "some/10.png", "strict-lora": "yes"}',
    '{"images": ["rocket.jpg", "cat.jpg"], "prompt": "make it blue", "output": "some/11.jpg", "seed": "7", "megapixels": null}',
    '{"images": ["rocket.jpg", "cat.jpg"], "prompt": "make it blue", "output": "some/12.jpg", "seed": "7", "sampler": "heun"}',
  ];
  let results: readonly Result[];

  beforeAll(async () => {
    writeFileSync(folder.at("some.jsonl"), `\uFEFF${written.join("\r\n")}\r\n`);
    const ended = await qedit(["batch", "some.jsonl", ...TINY], here);
    expect(ended.code, ended.stderr).toBe(6);
    // Without the call's own flags, its prompt or its shard, other jobs would be run.
    expect(ended.stderr).toMatch(
      /error: 10 of 12 jobs failed\n {2}hint: Correct them, and run the same command with --last-failed\n$/,
    );
    results = jsonLines<Result>(ended.stdout);
  }, SLOW);

  test("leaves the others alone", async () => {
    expect(results.filter(({ status }) => status === "done").map(({ output }) => output)).toEqual([
      "some/1.png",
      "some/12.jpg",
    ]);
    expect((await sharp(folder.at("some/12.jpg")).metadata()).format).toBe("jpeg");
  });

  test.each([
    [3, /line 3: "stesp" is no parameter of run/, /Did you mean "steps"\?/],
    [4, /Cannot read missing\.jpg: there is no such file/, /path/],
    [5, /line 5: it is not JSON/, /images/],
    [6, /No picture was given/, /Give at least one/],
    [7, /No --prompt was given/, /--prompt/],
    [8, /line 8: Cannot use 0 for "steps": a whole number from 1 to 10000 is wanted/, /./],
    [9, /line 9: "device" holds for the whole batch/, /command line/],
    [10, /line 10: Cannot use 12345678901234567000 for "seed": a text, which loses no digits, is wanted/, /./],
    [11, /line 11: Cannot use "yes" for "strict-lora": true or false is wanted/, /./],
    [12, /line 12: Cannot use null for "megapixels": a number of at least 0 is wanted/, /./],
  ])("in line %i says what is wrong with it", (line, message, hint) => {
    const { status, error } = results.find((each) => each.line === line)!;
    expect(status).toBe("failed");
    expect(error!.message).toMatch(message);
    expect(error!.hint ?? "").toMatch(hint);
  });

  test(
    "is run again by --last-failed once it was mended, and the others are not",
    async () => {
      writeFileSync(
        folder.at("some.jsonl"),
        written.map((line) => line.replace(', "stesp": 4', "").replace("missing", "rocket")).join("\n"),
      );
      const { code, stdout } = await qedit(["batch", "some.jsonl", ...TINY, "--last-failed"], here);
      expect(code).toBe(6);
      const again = jsonLines<Result>(stdout);
      expect(again.filter(({ status }) => status === "done").map(({ line }) => line)).toEqual([3, 4]);
      expect(again.map(({ line }) => line).sort((a, b) => a - b)).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    },
    SLOW,
  );
});

describe("--resume", () => {
  beforeAll(async () => {
    writeJobs(folder.at("again.jsonl"), jobs(3, "again"));
    await done(["batch", "again.jsonl", ...TINY], here);
  }, SLOW);

  test("without it a result that is there is not replaced, and fails its job alone", async () => {
    const { code, stdout, stderr } = await qedit(["batch", "again.jsonl", ...TINY], here);
    expect(code).toBe(6);
    expect(jsonLines<Result>(stdout).map(({ error }) => error?.code)).toEqual(Array(3).fill("QEDIT_E_EXISTS"));
    expect(stderr).toMatch(/hint: Leave out what is done: run the same command with --resume$/m);
  });

  test(
    "does a job again whose content changed, and one whose result is gone",
    async () => {
      const [first, second, third] = jobs(3, "again");
      writeJobs(folder.at("again.jsonl"), [first!, { ...second, seed: 77 }, third!]);
      rmSync(folder.at("again/3.png"));
      const before = readFileSync(folder.at("again/2.png"));
      const { stdout } = await done(["batch", "again.jsonl", ...TINY, "--resume"], here);
      expect(statuses(stdout)).toEqual({ 1: "skipped", 2: "done", 3: "done" });
      expect(readFileSync(folder.at("again/2.png")).equals(before)).toBe(false);
    },
    SLOW,
  );

  test(
    "leaves a result alone that somebody changed, and warns of it",
    async () => {
      writeFileSync(folder.at("again/1.png"), "mine");
      const { stdout, stderr } = await done(["batch", "again.jsonl", ...TINY, "--resume"], here);
      expect(jsonLines<Result>(stdout)[0]).toMatchObject({
        status: "skipped",
        reason: "done before, and changed since",
      });
      expect(stderr).toMatch(/warning: again\/1\.png was changed since it was made/);
      expect(readFileSync(folder.at("again/1.png"), "utf8")).toBe("mine");
    },
    SLOW,
  );

  test(
    "replaces the older result of a changed job that was killed just before its new one was there",
    async () => {
      writeJobs(folder.at("older.jsonl"), jobs(1, "older"));
      await done(["batch", "older.jsonl", ...TINY], here);
      const older = readFileSync(folder.at("older/1.png"));
      writeJobs(folder.at("older.jsonl"), [{ ...jobs(1, "older")[0], seed: 9 }]);
      await done(["batch", "older.jsonl", ...TINY, "--resume"], here);
      // As if the process had been killed after it announced the new result, and before the file was renamed.
      writeFileSync(folder.at("older/1.png"), older);
      expect(statuses((await done(["batch", "older.jsonl", ...TINY, "--resume"], here)).stdout)).toEqual({ 1: "done" });
      expect(readFileSync(folder.at("older/1.png")).equals(older)).toBe(false);
    },
    SLOW,
  );

  test(
    "takes a result as done whose last line the journal lost",
    async () => {
      writeJobs(folder.at("lost.jsonl"), jobs(2, "lost"));
      await done(["batch", "lost.jsonl", ...TINY], here);
      const state = folder.at("state/qedit/batches");
      const journal = readdirSync(state)
        .map((name) => `${state}/${name}`)
        .find((path) => readFileSync(path, "utf8").includes("/lost/2.png"))!;
      const lines = readFileSync(journal, "utf8").trimEnd().split("\n");
      // The end of a journal whose process was killed between renaming the file and saying so, and half a line.
      writeFileSync(journal, `${lines.slice(0, -1).join("\n")}\n${lines.at(-1)!.slice(0, 20)}`);
      expect(statuses((await done(["batch", "lost.jsonl", ...TINY, "--resume"], here)).stdout)).toEqual({
        1: "skipped",
        2: "skipped",
      });
    },
    SLOW,
  );
});

test("--max-failures stops, and says what was not run", async () => {
  writeJobs(folder.at("most.jsonl"), [
    { images: ["missing.jpg"], prompt: "x", output: "most/1.png" },
    { images: ["gone.jpg"], prompt: "x", output: "most/2.png" },
    ...jobs(3, "most").slice(2),
  ]);
  const { code, stdout } = await qedit(["batch", "most.jsonl", ...TINY, "--max-failures", "2"], here);
  expect(code).toBe(6);
  expect(jsonLines<Result>(stdout).map(({ status, reason }) => reason ?? status)).toEqual([
    "failed",
    "failed",
    "not run",
  ]);
  expect(existsSync(folder.at("most/3.png"))).toBe(false);
});

test(
  "shards share the jobs out, each job to one of them",
  async () => {
    writeJobs(folder.at("shards.jsonl"), jobs(5, "shards"));
    const ended = await Promise.all(
      [1, 2].map((index) => done(["batch", "shards.jsonl", ...TINY, "--shard", `${index}/2`], here)),
    );
    expect(ended.map(({ stdout }) => jsonLines<Result>(stdout).map(({ job }) => job))).toEqual([
      [1, 3, 5],
      [2, 4],
    ]);
    await expectWhole("shards", 5);
  },
  SLOW,
);

test("jobs come through a pipe, relative to the folder, and results go into one", async () => {
  const line = `printf '{"images": ["cat.jpg"], "prompt": "x", "output": "piped/%s.png"}\\n' 1 2 | qedit batch - ${TINY.join(" ")} | cat > piped.jsonl`;
  const { code, stderr } = await shell(line, folder.path);
  expect(code, stderr).toBe(0);
  expect(statuses(readFileSync(folder.at("piped.jsonl"), "utf8"))).toEqual({ 1: "done", 2: "done" });
  await expectWhole("piped", 2);
});

test(
  "Ctrl-C ends with 130, and the rest is done by --resume",
  async () => {
    writeJobs(folder.at("stopped.jsonl"), jobs(30, "stopped"));
    const started = (child: ChildProcess) => child.stdout!.once("data", () => child.kill("SIGINT"));
    const stopped = await spawned(["batch", "stopped.jsonl", ...TINY], { ...here, started });
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toMatch(/error: Stopped\n/);
    const { stdout } = await done(["batch", "stopped.jsonl", ...TINY, "--resume"], here);
    expect(Object.keys(statuses(stdout))).toHaveLength(30);
    await expectWhole("stopped", 30);
  },
  SLOW,
);

test("of two jobs with one output the first is done, and the other fails", async () => {
  writeJobs(folder.at("same.jsonl"), [...jobs(2, "same"), { ...jobs(1, "same")[0], output: "./same/../same/2.png" }]);
  const { code, stdout } = await qedit(["batch", "same.jsonl", ...TINY], here);
  const lines = jsonLines<{ line: number; status: string; error?: { message: string } }>(stdout);
  expect(code).toBe(6);
  expect(lines.sort((a, b) => a.line - b.line).map(({ status }) => status)).toEqual(["done", "done", "failed"]);
  expect(lines[2]!.error!.message).toMatch(/Cannot write same\/2\.png twice: line 2 and line 3/);
});

describe.concurrent("refuses, before anything is computed,", () => {
  test("a file that is not text, in one line", async () => {
    const ended = await qedit(["batch", CAT, ...TINY], here);
    expectRefusal(ended, { code: 2, message: /Cannot read the jobs: this is not a text/, hint: /qedit run/ });
    expect(ended.stderr.length).toBeLessThan(500);
  });

  test.each([
    [["batch", "nowhere.jsonl"], /Cannot read the jobs in nowhere\.jsonl: there is no such file/],
    [["batch", "any.jsonl", "--shard", "3/2"], /Cannot use "3\/2" for --shard/],
    [["batch", "any.jsonl", "--max-failures", "0"], /--max-failures/],
  ])("%j", async (args, message) => {
    expectRefusal(await qedit([...args, ...TINY], here), { code: 2, message });
  });

  test("an empty file of jobs", async () => {
    writeFileSync(folder.at("empty.jsonl"), "\n  \n");
    expectRefusal(await qedit(["batch", "empty.jsonl", ...TINY], here), {
      code: 2,
      message: /There is no job/,
      hint: /"images"/,
    });
  });
});
