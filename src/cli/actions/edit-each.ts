// Implements `qedit each`: finds the pictures, leaves out results of earlier edits, and edits the others.
import { stat } from "node:fs/promises";
import { basename, extname, join, relative, resolve } from "node:path";
import { stagesElsewhere } from "../../edit/remote/remote-servers.js";
import { modelLibrary } from "../../edit/resolve/model-library.js";
import { type ResolvedEdit, resolveEdit } from "../../edit/resolve/resolve-edit.js";
import { QeditError } from "../../std/errors.js";
import { canTake, resolvedHere, serverFor } from "../client/find-server.js";
import type { EachSettings } from "../commands/each.js";
import { checkInputs, inputPrompt, refuseSharedStream } from "../files/input.js";
import { checkKept } from "../files/kept-files.js";
import { removeLeftoversBeside } from "../files/leftovers.js";
import { checkOutput } from "../files/output.js";
import { pictureCache, type ReadPictures } from "../files/picture-cache.js";
import { pictureEncoding, refuseUselessQuality } from "../files/picture-output.js";
import { type FoundPicture, looksEdited, picturesOf } from "../files/pictures-by-pattern.js";
import { asInputs, asResults, realFile, refuseSharedPaths } from "../files/shared-paths.js";
import { openSheet, type Sheet } from "../files/sheet-output.js";
import { STREAM } from "../io.js";
import { withSeed } from "../jobs/edit-job.js";
import { editMany, type JobEnd, type ObservedJob, refuseFailures, refuseSameOutput, type Tally } from "../jobs/many.js";
import type { Terminal } from "../render/terminal.js";
import { refuseUselessRemote } from "../settings/remote-options.js";
import type { GivenSetting } from "../settings/settings.js";
import { withService } from "../with-service.js";

/** A call of `each`. */
interface EachCall {
  readonly args: readonly string[];
  readonly settings: EachSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

interface Edit {
  readonly index: number;
  readonly input: string;
  readonly path: string;
  /** Folder of its tensor files. */
  readonly keep: string | undefined;
}

/** Edits every picture of a call. */
export async function editEach({ args, settings, given }: EachCall, terminal: Terminal): Promise<void> {
  refuseSharedStream([...args, ...settings.with, settings.mask]);
  checkInputs([settings.prompt], terminal.io);
  refuseUselessRemote(settings, given);
  const { pictures, passedOver } = await picturesOf(args);
  for (const text of passedOver) terminal.emit({ kind: "note", text: `passed over in ${text}` });
  const found = await withoutResults(pictures, settings, terminal);
  const edits = found.map(
    (picture, index): Edit => ({ index: index + 1, input: picture.path, ...outputsOf(picture, settings) }),
  );
  for (const { path } of edits.slice(0, 1)) refuseUselessQuality(pictureEncoding(path, settings).format, given);
  refuseSameOutput(
    edits.map(({ path, input }) => ({ path, where: input })),
    "Edit them in two calls, with another -o FOLDER or --format",
  );
  refuseSameOutput(
    edits.flatMap(({ keep, input }) => (keep === undefined ? [] : [{ path: keep, where: input }])),
    "Edit them in two calls, with another --keep FOLDER",
  );
  await refuseSharedPaths(
    [{ flag: "--sheet", path: settings.sheet }],
    [
      ...asResults(edits.map(({ path }) => path)),
      ...asInputs([...pictures.map(({ path }) => path), ...settings.with, settings.mask]),
    ],
  );
  await removeLeftoversBeside(edits.map(({ path }) => path));
  const sheet = await openSheet(settings.sheet, settings, terminal);
  const tally: Tally = { done: 0, failed: 0, skipped: 0 };
  const open = await withoutDone(edits, { settings, terminal, tally, total: edits.length });
  if (open.length === 0) return;
  await refuseReadResults(open, [...settings.with, settings.mask]);
  const inputs = new Map(open.map(({ index, input }) => [index, input]));
  const onEnd = async ({ index, path }: { index: number; path: string }, end: JobEnd) =>
    record({ index, input: inputs.get(index)!, path }, end, { terminal, tally });
  const many = { total: edits.length, maxFailures: settings.maxFailures, onEnd };
  const unresolved = { settings, given, force: settings.force, emit: terminal.emit };
  const server = await serverFor({ settings, given }, terminal);
  const here = server && { ...unresolved, settings: await resolvedHere(unresolved), isResolved: true };
  const images = open.map(({ input }) => [input, ...settings.with]);
  if (
    server &&
    here &&
    (await canTake(
      server,
      images.map((paths) => ({ images: paths, settings: here.settings })),
      terminal,
    ))
  ) {
    const { editEachThere } = await import("../client/each-there.js");
    await editEachThere(open, { ...many, settings: here.settings, given, sheet, terminal }, server.client);
  } else {
    const edit = await resolveEdit(here ?? unresolved, modelLibrary(stagesElsewhere(settings.remote)));
    const prompt = await inputPrompt(settings, terminal.io);
    const resolved = { ...edit, settings: { ...edit.settings, prompt } };
    const read = pictureCache();
    // Fail once if a reference cannot be read, not once per picture.
    await read(settings.with);
    await withService(settings, terminal, async (service) => {
      const jobs = open.map((each) => jobOf(each, { resolved, settings, read, terminal, sheet }));
      await editMany(jobs, many, service);
    });
  }
  await sheet?.write();
  const { done, failed, skipped } = tally;
  terminal.emit({ kind: "note", text: `${done} done, ${failed} failed, ${skipped} skipped` });
  refuseFailures(tally, "Correct them, and run the same command with --resume");
}

// Which of the two pictures were read would depend on the order of the edits. A picture may be replaced by its own result.
async function refuseReadResults(edits: readonly Edit[], shared: readonly (string | undefined)[]): Promise<void> {
  const readers = new Map<string, Edit | undefined>();
  for (const path of shared) {
    const real = path === undefined ? undefined : await realFile(path);
    if (real !== undefined) readers.set(real, undefined);
  }
  for (const edit of edits) {
    const real = await realFile(edit.input);
    if (real !== undefined && !readers.has(real)) readers.set(real, edit);
  }
  for (const edit of edits) {
    const real = await realFile(edit.path);
    if (real === undefined || !readers.has(real) || readers.get(real) === edit) continue;
    throw new QeditError("QEDIT_E_USAGE", `Cannot write ${edit.path}, the result of ${edit.input}: it is an input`, {
      hint: "Edit them in two calls, or with another -o FOLDER",
    });
  }
}

interface Work {
  readonly resolved: ResolvedEdit;
  readonly settings: EachSettings;
  readonly read: ReadPictures;
  readonly terminal: Terminal;
  readonly sheet: Sheet | undefined;
}

function jobOf({ index, input, path, keep }: Edit, { resolved, settings, read, terminal, sheet }: Work): ObservedJob {
  const pictures = () => read([input, ...settings.with]);
  const mask = async () => (settings.mask === undefined ? undefined : (await read([settings.mask]))[0]);
  const note: Terminal["emit"] = (event) =>
    terminal.emit(event.kind === "note" ? { ...event, text: `${input}: ${event.text}` } : event);
  const edit = withSeed({ resolved, pictures, mask, path, result: { ...settings, keep } }, note);
  return {
    planned: { ...edit, name: input, index },
    observer: {
      terminal,
      written: async ({ image }) =>
        sheet?.add(index, [
          [basename(input), (await pictures())[0]!.image],
          [basename(path), image],
        ]),
    },
  };
}

// Leaves out results of earlier edits, unless the user named the files.
async function withoutResults(
  found: readonly FoundPicture[],
  { output }: EachSettings,
  { emit }: Terminal,
): Promise<FoundPicture[]> {
  if (output === STREAM)
    throw new QeditError("QEDIT_E_USAGE", "Cannot write several pictures to stdout", {
      hint: "Name a folder: -o edits/",
    });
  if (output !== undefined && (await stat(output).catch(() => undefined))?.isFile()) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot write into ${output}: it is a file`, {
      hint: "Name a folder: -o edits/",
    });
  }
  const kept: FoundPicture[] = [];
  for (const picture of found) {
    const isInOutput = output !== undefined && isBelow(output, picture.path) && resolve(output) !== process.cwd();
    if (picture.isNamed || !(isInOutput || (await looksEdited(picture.path)))) kept.push(picture);
  }
  const omitted = found.length - kept.length;
  if (omitted > 0)
    emit({
      kind: "note",
      text: `${omitted} of ${found.length} pictures left out: ${omitted === 1 ? "it is a result" : "they are results"} of earlier edits`,
    });
  if (kept.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "Nothing is left to edit: every picture is a result of an earlier edit", {
      hint: "Name a file itself to edit it: qedit each photo-edit.png …",
    });
  return kept;
}

function isBelow(folder: string, path: string): boolean {
  const inside = relative(resolve(folder), resolve(path));
  return inside !== "" && !inside.startsWith("..");
}

// Where the result of a picture goes, and its tensor files.
function outputsOf({ path, below }: FoundPicture, { output, format, keep }: EachSettings): Pick<Edit, "path" | "keep"> {
  const stem = `${basename(path, extname(path))}-edit`;
  const name = `${stem}.${format ?? "png"}`;
  return {
    path: output === undefined ? join(path, "..", name) : join(output, below, name),
    keep: keep === undefined ? undefined : join(keep, below, stem),
  };
}

interface Progress {
  readonly settings: EachSettings;
  readonly terminal: Terminal;
  readonly tally: Tally;
  readonly total: number;
}

// Skips existing results with --resume; otherwise refuses them before anything is computed.
async function withoutDone(edits: readonly Edit[], { settings, terminal, tally, total }: Progress): Promise<Edit[]> {
  const open: Edit[] = [];
  for (const edit of edits) {
    if (settings.resume && (await stat(edit.path).catch(() => undefined))?.isFile()) {
      record(edit, { status: "skipped", reason: "done before" }, { terminal, tally });
      terminal.emit({ kind: "job", state: "skipped", job: edit.input, index: edit.index, total });
      continue;
    }
    try {
      await checkOutput(edit.path, settings, terminal);
    } catch (error) {
      if (!(error instanceof QeditError && error.code === "QEDIT_E_EXISTS")) throw error;
      throw new QeditError(error.code, error.message, {
        hint: "Go on with the others by --resume, or replace it with --force",
      });
    }
    // An edit that was stopped may have kept some: those that are equal are left.
    await checkKept(edit.keep, { force: settings.force || settings.resume }, terminal);
    open.push(edit);
  }
  if (tally.skipped > 0) terminal.emit({ kind: "note", text: `${tally.skipped} of ${edits.length} done before` });
  return open;
}

function record(
  { index, input, path }: Omit<Edit, "keep">,
  end: JobEnd,
  { terminal, tally }: { terminal: Terminal; tally: Tally },
): void {
  tally[end.status] += 1;
  if (end.status === "done" || terminal.settings.json) terminal.item({ job: index, input, ...end, output: path }, path);
}
