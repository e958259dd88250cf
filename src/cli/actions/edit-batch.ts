// Implements `qedit batch`: resolves every line of a jobs file, runs those to do, and prints a result line for each.
import { dirname, resolve } from "node:path";
import { stagesElsewhere } from "../../edit/remote/remote-servers.js";
import { modelLibrary } from "../../edit/resolve/model-library.js";
import type { EditService } from "../../edit/service/service.js";
import type { FloatImage, Image } from "../../image/image.js";
import { QeditError } from "../../std/errors.js";
import type { LineThere } from "../client/batch-there.js";
import { serverFor } from "../client/find-server.js";
import type { ServerClient } from "../client/server-client.js";
import type { BatchSettings } from "../commands/batch.js";
import { checkInputs, inputText } from "../files/input.js";
import { checkKept } from "../files/kept-files.js";
import { removeLeftoversBeside } from "../files/leftovers.js";
import { checkOutput } from "../files/output.js";
import { pictureCache, type ReadPictures } from "../files/picture-cache.js";
import { asInputs, asResults, refuseSharedPaths } from "../files/shared-paths.js";
import { openSheet, type Sheet } from "../files/sheet-output.js";
import { STREAM } from "../io.js";
import { withSeed } from "../jobs/edit-job.js";
import { OwnFiles } from "../jobs/files-of-jobs.js";
import { type JobLine, jobName, readJobs } from "../jobs/job-lines.js";
import { type Journal, lenient, openJournal } from "../jobs/journal.js";
import { editMany, failed, type JobEnd, type ObservedJob, refuseFailures, type Tally } from "../jobs/many.js";
import {
  type FaultyLine,
  isPlanned,
  journalPath,
  openLine,
  type PlannedLine,
  planLines,
  readJobsFile,
  resultState,
} from "../jobs/planned-lines.js";
import { failureInFlags } from "../render/in-flags.js";
import type { Terminal } from "../render/terminal.js";
import { refuseUselessRemote } from "../settings/remote-options.js";
import type { GivenSetting } from "../settings/settings.js";
import { withService } from "../with-service.js";

/** A call of `batch`. */
interface BatchCall {
  readonly args: readonly string[];
  readonly settings: BatchSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Runs the jobs of a file. Throws QEDIT_E_PARTIAL if any failed. */
export async function editBatch({ args, settings, given }: BatchCall, terminal: Terminal): Promise<void> {
  const { io, emit } = terminal;
  checkInputs(args, io);
  refuseUselessRemote(settings, given);
  const file = args[0]!;
  const written = file === STREAM ? await inputText(file, io) : await readJobsFile(file);
  const lines = await readJobs(written, file === STREAM ? io.cwd : dirname(resolve(file)));
  const { planned, server } = await plannedLines(lines, { settings, given }, terminal);
  const all = await withOwnFiles(planned);
  const inputs = planned.flatMap((line) => (isPlanned(line) ? [...line.images, line.values.mask] : []));
  await refuseSharedPaths(
    [
      { flag: "--sheet", path: settings.sheet },
      { flag: "--events", path: terminal.settings.events },
    ],
    [...asResults(all.map(({ path }) => path)), ...asInputs([file, ...inputs])],
  );
  await removeLeftoversBeside(all.flatMap(({ path }) => path ?? []));
  const sheet = await openSheet(settings.sheet, settings, terminal);
  const journal = await openBatchJournal(file === STREAM ? `stdin in ${io.cwd}` : resolve(file), settings, terminal);
  try {
    const chosen = chosenOf(all, settings, journal);
    if (settings.lastFailed && chosen.length === 0) emit({ kind: "note", text: "no job failed last time" });
    const tally: Tally = { done: 0, failed: 0, skipped: 0 };
    const codes = new Set<string>();
    await runLines(chosen, { total: all.length, settings, terminal, journal, sheet, tally, codes, server });
    emit({ kind: "note", text: `${tally.done} done, ${tally.failed} failed, ${tally.skipped} skipped` });
    const hasOnlyExisting = [...codes].every((code) => code === "QEDIT_E_EXISTS");
    refuseFailures(
      tally,
      hasOnlyExisting
        ? "Leave out what is done: run the same command with --resume"
        : "Correct them, and run the same command with --last-failed",
    );
  } finally {
    await journal?.close();
  }
}

type Line = PlannedLine | FaultyLine;

// The jobs, and the server that makes them; undefined: this process.
async function plannedLines(
  lines: readonly JobLine[],
  call: Pick<BatchCall, "settings" | "given">,
  terminal: Terminal,
): Promise<{ planned: readonly Line[]; server: ServerClient | undefined }> {
  const server = await serverFor(call, terminal);
  if (server) {
    const { planLinesThere } = await import("../client/batch-there.js");
    const planned = await planLinesThere(lines, call.given, { server, terminal });
    if (planned) return { planned, server: server.client };
  }
  const planning = {
    defaults: call.given,
    open: openLine(modelLibrary(stagesElsewhere(call.settings.remote))),
    emit: terminal.emit,
  };
  return { planned: await planLines(lines, planning), server: undefined };
}

// A job that touches a file of an earlier one fails, and the earlier one is done.
async function withOwnFiles(lines: readonly Line[]): Promise<Line[]> {
  const files = new OwnFiles();
  const own: Line[] = [];
  for (const each of lines) {
    const { line, index, path: output } = each;
    const { keep, mask } = isPlanned(each) ? each.values : {};
    const read = isPlanned(each) ? [...each.images, ...(mask === undefined ? [] : [mask])] : [];
    const error = await files.take({ line, output, keep, read });
    own.push(error === undefined ? each : { line, index, name: `line ${line}`, path: undefined, error });
  }
  return own;
}

function chosenOf(all: readonly Line[], settings: BatchSettings, journal: Journal | undefined): readonly Line[] {
  const { shard, lastFailed } = settings;
  const isInShard = ({ index }: Line) => shard === undefined || (index - shard.index) % shard.count === 0;
  const hasFailed = ({ path, line }: Line) => journal?.hasFailed(path === undefined ? undefined : resolve(path), line);
  return all.filter(isInShard).filter((line) => !lastFailed || hasFailed(line));
}

interface Work {
  readonly total: number;
  readonly settings: BatchSettings;
  readonly terminal: Terminal;
  readonly journal: Journal | undefined;
  readonly sheet: Sheet | undefined;
  readonly tally: Tally;
  /** Codes of the failures. */
  readonly codes: Set<string>;
  readonly server: ServerClient | undefined;
}

async function runLines(lines: readonly Line[], work: Work): Promise<void> {
  const { settings, terminal, tally, sheet } = work;
  const ready: PlannedLine[] = [];
  for (const line of lines) {
    terminal.signal.throwIfAborted();
    const end = isPlanned(line) ? await endWithoutRun(line, work) : failed(line.error);
    if (end === undefined) ready.push(line as PlannedLine);
    else await record(line, end, work);
  }
  const allowed = settings.maxFailures === undefined ? Number.POSITIVE_INFINITY : settings.maxFailures - tally.failed;
  if (allowed <= 0)
    for (const line of ready.splice(0)) await record(line, { status: "skipped", reason: "not run" }, work);
  if (ready.length === 0) return;
  if (work.server) await runThere(ready, { ...work, allowed }, work.server);
  else await withService(settings, terminal, (service) => runReady(ready, { ...work, allowed }, service));
  await sheet?.write();
}

async function runThere(
  ready: readonly PlannedLine[],
  work: Work & { readonly allowed: number },
  client: ServerClient,
): Promise<void> {
  const { editLinesThere } = await import("../client/batch-there.js");
  const read = pictureCache();
  const jobs: LineThere[] = [];
  for (const line of ready) jobs.push({ line, force: await mayReplace(line, work), ...keptBy(line, read, work) });
  const { terminal, total, allowed } = work;
  const onEnd = (line: PlannedLine, end: JobEnd, seed: bigint) => record(line, end, work, seed);
  await editLinesThere(jobs, { terminal, total, maxFailures: allowed, onEnd }, client);
}

async function runReady(
  ready: readonly PlannedLine[],
  work: Work & { readonly allowed: number },
  service: EditService,
): Promise<void> {
  const read = pictureCache();
  const byIndex = new Map(ready.map((line) => [line.index, line]));
  const jobs: ObservedJob[] = [];
  for (const line of ready) jobs.push(await jobOf(line, read, work));
  const onEnd = ({ index, resolved }: ObservedJob["planned"], end: JobEnd) =>
    record(byIndex.get(index)!, end, work, resolved.settings.seed);
  await editMany(jobs, { total: work.total, maxFailures: work.allowed, onEnd }, service);
}

// The end of a job that is not run: done before, or its result cannot be written. undefined: it must be run.
async function endWithoutRun(line: PlannedLine, { settings, terminal, journal }: Work): Promise<JobEnd | undefined> {
  const isAgain = settings.resume || settings.lastFailed;
  const state = journal && isAgain ? await resultState(line, journal) : "nothing";
  if (state === "done") return { status: "skipped", reason: "done before" };
  if (state === "changed") {
    const text = `${line.path} was changed since it was made; remove it to have it made again`;
    terminal.emit({ kind: "warning", text });
    return { status: "skipped", reason: "done before, and changed since" };
  }
  try {
    await checkOutput(line.path, { force: line.values.force || state === "ours" }, terminal);
  } catch (error) {
    const isThere = error instanceof QeditError && error.code === "QEDIT_E_EXISTS";
    const hint = 'Leave out what is done with --resume, replace it with --force, or give another "output"';
    return failed(isThere ? new QeditError(error.code, error.marked.message, { hint }) : error);
  }
  try {
    // A job that was stopped may have kept some: those that are equal are left.
    await checkKept(line.values.keep, { force: line.values.force || isAgain }, terminal);
  } catch (error) {
    return failed(error);
  }
  return undefined;
}

async function jobOf(line: PlannedLine, read: ReadPictures, work: Work): Promise<ObservedJob> {
  const { terminal } = work;
  const { index, name, images, path, resolved, values } = line;
  const pictures = () => read(images);
  const mask = async () => (values.mask === undefined ? undefined : (await read([values.mask]))[0]);
  const result = { ...values, force: await mayReplace(line, work) };
  const note: Terminal["emit"] = (event) =>
    terminal.emit(event.kind === "note" ? { ...event, text: `${name}: ${event.text}` } : event);
  const { writing, written } = keptBy(line, read, work);
  return {
    planned: { ...withSeed({ resolved: resolved!, pictures, mask, path, result }, note), name, index },
    observer: { terminal, writing, written: ({ image }) => written(async () => image) },
  };
}

// Whether the result of a job may take the place of what is there: asked for, or made by an earlier version of the job.
async function mayReplace(line: PlannedLine, { journal, settings }: Work): Promise<boolean> {
  if (line.values.force) return true;
  const isAgain = journal !== undefined && (settings.resume || settings.lastFailed);
  return isAgain && (await resultState(line, journal)) === "ours";
}

// Keeps what becomes of a job: in the journal, and on the sheet.
function keptBy({ line, index, name, images, path, content }: PlannedLine, read: ReadPictures, work: Work) {
  const { journal, sheet } = work;
  const entry = { output: resolve(path), line, content };
  let hash: string | undefined;
  return {
    async writing(made: string): Promise<void> {
      hash = made;
      await journal?.append({ ...entry, state: "writing", hash });
    },
    async written(image: () => Promise<Image | FloatImage>): Promise<void> {
      await journal?.append({ ...entry, state: "done", hash: hash! });
      if (sheet === undefined) return;
      const [original] = await read(images.slice(0, 1));
      await sheet.add(index, [
        ...(original ? [[jobName(images[0]!), original.image] as const] : []),
        [name, await image()],
      ]);
    },
  };
}

// Prints a job's result line, counts it, and writes a failure to the journal, except QEDIT_E_EXISTS: the job itself did not fail.
async function record(
  line: Line,
  end: JobEnd,
  { terminal, journal, tally, total, codes }: Work,
  seed?: bigint,
): Promise<void> {
  const { index, name, path } = line;
  tally[end.status] += 1;
  const error = end.error && failureInFlags(end.error);
  const printed = {
    ...{ job: index, line: line.line, ...end },
    ...(error ? { error } : {}),
    output: path ?? null,
    ...(end.status === "done" ? { seed: String(seed) } : {}),
  };
  terminal.item(printed, JSON.stringify(printed));
  // The service has emitted events of the jobs that it ran.
  if (end.seconds === undefined)
    terminal.emit({ kind: "job", state: end.status, job: name, index, total, ...(error ? { error } : {}) });
  if (error !== undefined) codes.add(error.code);
  if (error === undefined || error.code === "QEDIT_E_EXISTS") return;
  const output = path === undefined ? undefined : resolve(path);
  const content = isPlanned(line) ? line.content : undefined;
  const { code, message } = error;
  await journal?.append({ output, line: line.line, content, state: "failed", error: { code, message } });
}

async function openBatchJournal(
  jobs: string,
  { resume, lastFailed }: BatchSettings,
  { emit }: Terminal,
): Promise<Journal | undefined> {
  let hasWarned = false;
  const warn = ({ message }: QeditError) => {
    if (!hasWarned) emit({ kind: "warning", text: `a stop cannot be resumed: ${message}` });
    hasWarned = true;
  };
  try {
    return lenient(await openJournal(journalPath(jobs)), warn);
  } catch (error) {
    if (resume || lastFailed || !(error instanceof QeditError)) throw error;
    warn(error);
    return undefined;
  }
}
