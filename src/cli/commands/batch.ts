// qedit batch: a file of jobs, one load of each network, and a result line for every job.
import { dirname, resolve } from "node:path";
import { type Journal, openJournal } from "../../edit/journal.js";
import { pictureMemory, type ReadPictures } from "../../edit/picture-memory.js";
import { flag, type Option, type SettingsOf, text } from "../../stages/option.js";
import { QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";
import { compute } from "../compute.js";
import { checkInputs, inputText } from "../files/input.js";
import { checkOutput, STREAM } from "../files/output.js";
import { openSheet, type Sheet, sheet } from "../files/sheet-output.js";
import { runOptions, withSeed } from "../jobs/edit-job.js";
import { jobName, readJobs } from "../jobs/job-lines.js";
import {
  editMany,
  failed,
  type JobEnd,
  type ManyJob,
  manyJob,
  maxFailures,
  refuseFailures,
  refuseSameOutput,
  type Tally,
} from "../jobs/many.js";
import {
  before,
  type FaultyLine,
  isPlanned,
  journalPath,
  type PlannedLine,
  planLines,
  readJobsFile,
} from "../jobs/planned-lines.js";
import type { Terminal } from "../render/terminal.js";
import { manyOptions } from "../settings/options.js";

const shard: Option<{ readonly index: number; readonly count: number } | undefined> = {
  flags: "--shard <i/n>",
  summary: "only every n-th job, from the i-th on: for n machines",
  initial: undefined,
  isPerCall: true,
  group: "Output",
  parse(value) {
    const [, index, count] = /^(\d{1,6})\/(\d{1,6})$/.exec(value)?.map(Number) ?? [];
    if (index !== undefined && count !== undefined && index >= 1 && index <= count) return { index, count };
    throw new QeditError("QEDIT_E_USAGE", `Cannot use "${value}" for --shard: i/n is wanted, with i from 1 to n`, {
      hint: "--shard 1/4",
    });
  },
};

const { output: _, ...jobOptions } = runOptions;

const options = {
  ...jobOptions,
  prompt: text({
    flags: "-p, --prompt <text>",
    summary: "what to do, in jobs that do not say it",
    group: "Prompt",
    isPerCall: true,
  }),
  resume: flag({
    flags: "--resume",
    summary: "leave out the jobs that are done; changed ones are done again",
    group: "Output",
    isPerCall: true,
  }),
  lastFailed: flag({
    flags: "--last-failed",
    summary: "only the jobs that failed last time",
    group: "Output",
    isPerCall: true,
  }),
  maxFailures,
  shard,
  sheet,
  ...manyOptions,
};

/** `qedit batch jobs.jsonl`. */
export const batch = defineCommand({
  summary: "Edit pictures by a file of jobs, one a line",
  examples: [
    "qedit batch jobs.jsonl > results.jsonl",
    "qedit batch jobs.jsonl --resume",
    "qedit batch jobs.jsonl --last-failed",
    "jq -c '.[]' jobs.json | qedit batch - --fast 4",
    "qedit batch jobs.jsonl --shard 2/4",
  ],
  positionals: [
    ["<jobs>", 'lines such as {"images": ["a.jpg"], "prompt": "…", "output": "b.png", "steps": 8}; - is stdin'],
  ],
  options,
  async perform({ args, settings, given }, terminal) {
    checkInputs(args);
    const file = args[0]!;
    const written = file === STREAM ? await inputText(file) : await readJobsFile(file);
    const all = await planLines(
      await readJobs(written, file === STREAM ? process.cwd() : dirname(resolve(file))),
      given,
      terminal.emit,
    );
    refuseSameOutput(
      all.flatMap(({ path, line }) => (path === undefined ? [] : [{ path, where: `line ${line}` }])),
      'Give each job an "output" of its own',
    );
    const onSheet = await openSheet(settings.sheet, settings, terminal);
    const journal = await openBatchJournal(
      file === STREAM ? `stdin in ${process.cwd()}` : resolve(file),
      settings,
      terminal,
    );
    try {
      const isOurs = ({ index }: { index: number }) =>
        settings.shard === undefined || (index - settings.shard.index) % settings.shard.count === 0;
      const chosen = all
        .filter(isOurs)
        .filter(
          ({ path, line }) =>
            !settings.lastFailed || journal?.hasFailed(path === undefined ? undefined : resolve(path), line),
        );
      if (settings.lastFailed && chosen.length === 0) terminal.emit({ kind: "note", text: "no job failed last time" });
      const codes = new Set<string>();
      const tally = await runLines(chosen, {
        total: all.length,
        settings,
        terminal,
        journal,
        onSheet,
        tally: { done: 0, failed: 0, skipped: 0 },
        codes,
      });
      terminal.emit({ kind: "note", text: `${tally.done} done, ${tally.failed} failed, ${tally.skipped} skipped` });
      const isOnlyThere = [...codes].every((code) => code === "QEDIT_E_EXISTS");
      refuseFailures(
        tally,
        isOnlyThere
          ? `Leave out what is done: qedit batch ${file} --resume`
          : `Mend them, then: qedit batch ${file} --last-failed`,
      );
    } finally {
      await journal?.close();
    }
  },
});

interface Work {
  readonly total: number;
  readonly settings: SettingsOf<typeof options>;
  readonly terminal: Terminal;
  readonly journal: Journal | undefined;
  readonly onSheet: Sheet | undefined;
  readonly tally: Tally;
  /** Codes of the failures. */
  readonly codes: Set<string>;
}

async function runLines(lines: readonly (PlannedLine | FaultyLine)[], work: Work): Promise<Tally> {
  const { settings, terminal, tally, onSheet, total } = work;
  const ready: PlannedLine[] = [];
  for (const line of lines) {
    terminal.signal.throwIfAborted();
    const end = isPlanned(line) ? await endBefore(line, work) : failed(line.error);
    if (end === undefined) ready.push(line as PlannedLine);
    else await tell(line, end, work);
  }
  const allowed = settings.maxFailures === undefined ? Infinity : settings.maxFailures - tally.failed;
  if (allowed <= 0)
    for (const line of ready.splice(0)) await tell(line, { status: "skipped", reason: "not run" }, work);
  if (ready.length === 0) return tally;
  const read = pictureMemory();
  const byIndex = new Map(ready.map((line) => [line.index, line]));
  await compute(settings, terminal, async (context) => {
    const jobs: ManyJob[] = [];
    for (const line of ready) jobs.push(await jobOf(line, read, work));
    await editMany(
      jobs,
      {
        total,
        maxFailures: allowed,
        told: ({ index, settings: { seed } }, end) => tell(byIndex.get(index)!, end, work, seed),
      },
      context,
    );
    await onSheet?.write();
  });
  return tally;
}

// What is known of a job without running it: done before, or its result cannot be written.
async function endBefore(line: PlannedLine, { settings, terminal, journal }: Work): Promise<JobEnd | undefined> {
  const known = journal && (settings.resume || settings.lastFailed) ? await before(line, journal) : "nothing";
  if (known === "done") return { status: "skipped", reason: "done before" };
  if (known === "changed") {
    terminal.emit({
      kind: "warning",
      text: `${line.path} was changed since it was made; remove it to have it made again`,
    });
    return { status: "skipped", reason: "done before, and changed since" };
  }
  try {
    await checkOutput(line.path, { force: line.settings.force || known === "ours" }, terminal);
  } catch (error) {
    const isThere = error instanceof QeditError && error.code === "QEDIT_E_EXISTS";
    return failed(
      isThere
        ? new QeditError(error.code, error.message, {
            hint: 'Leave out what is done with --resume, replace it with --force, or give another "output"',
          })
        : error,
    );
  }
  return undefined;
}

async function jobOf(
  line: PlannedLine,
  read: ReadPictures,
  { terminal, journal, onSheet, settings }: Work,
): Promise<ManyJob> {
  const { index, name, images, path, content } = line;
  const isOurs =
    journal !== undefined && (settings.resume || settings.lastFailed) && (await before(line, journal)) === "ours";
  const force = line.settings.force || isOurs;
  const pictures = () => read(images);
  const planned = {
    ...withSeed({ pictures, settings: { ...line.settings, force }, path }, (event) =>
      terminal.emit(event.kind === "note" ? { ...event, text: `${name}: ${event.text}` } : event),
    ),
    name,
    index,
  };
  const entry = { output: resolve(path), line: line.line, content };
  let hash: string | undefined;
  return manyJob(planned, {
    terminal,
    async writing(made) {
      hash = made;
      await journal?.append({ ...entry, state: "writing", hash });
    },
    async written({ image }) {
      await journal?.append({ ...entry, state: "done", hash: hash! });
      await onSheet?.add(index, [
        [jobName(images[0]!), (await pictures())[0]!.image],
        [name, image],
      ]);
    },
  });
}

// Prints a job's result line, counts it, and remembers a failure; that a file is in the way is no failure of the job itself.
async function tell(
  line: PlannedLine | FaultyLine,
  end: JobEnd,
  { terminal, journal, tally, total, codes }: Work,
  seed?: bigint,
): Promise<void> {
  const { index, name, path } = line;
  tally[end.status] += 1;
  const record = {
    job: index,
    line: line.line,
    ...end,
    output: path ?? null,
    ...(end.status === "done" ? { seed: String(seed) } : {}),
  };
  terminal.item(record, JSON.stringify(record));
  // Those that the pipeline ran it told itself.
  if (end.seconds === undefined)
    terminal.emit({
      kind: "job",
      state: end.status,
      job: name,
      index,
      total,
      ...(end.error ? { error: end.error } : {}),
    });
  const { error } = end;
  if (error !== undefined) codes.add(error.code);
  if (error === undefined || error.code === "QEDIT_E_EXISTS") return;
  const output = path === undefined ? undefined : resolve(path);
  await journal?.append({
    output,
    line: line.line,
    content: isPlanned(line) ? line.content : undefined,
    state: "failed",
    error: { code: error.code, message: error.message },
  });
}

async function openBatchJournal(
  jobs: string,
  { resume, lastFailed }: SettingsOf<typeof options>,
  { emit }: Terminal,
): Promise<Journal | undefined> {
  try {
    return await openJournal(journalPath(jobs));
  } catch (error) {
    if (resume || lastFailed || !(error instanceof QeditError)) throw error;
    emit({ kind: "warning", text: `a stop cannot be resumed: ${error.message}` });
    return undefined;
  }
}
