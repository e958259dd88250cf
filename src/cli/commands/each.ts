// qedit each: the same edit for every picture, one load of each network.
import { stat } from "node:fs/promises";
import { basename, extname, join, relative, resolve } from "node:path";
import { pictureMemory, type ReadPictures } from "../../edit/picture-memory.js";
import { flag, repeated, type SettingsOf, text } from "../../stages/option.js";
import { QeditError } from "../../std/errors.js";
import { defineCommand } from "../command.js";
import { compute } from "../compute.js";
import { checkInputs, inputText } from "../files/input.js";
import { checkOutput, STREAM } from "../files/output.js";
import { type FoundPicture, looksEdited, picturesOf } from "../files/pictures-by-pattern.js";
import { openSheet, type Sheet, sheet } from "../files/sheet-output.js";
import { type RunSettings, resolveEdit, runOptions, withSeed } from "../jobs/edit-job.js";
import {
  editMany,
  type JobEnd,
  type ManyJob,
  manyJob,
  maxFailures,
  refuseFailures,
  refuseSameOutput,
  type Tally,
} from "../jobs/many.js";
import type { Terminal } from "../render/terminal.js";
import { manyOptions } from "../settings/options.js";

const options = {
  ...runOptions,
  output: text({
    flags: "-o, --output <folder>",
    summary: "folder of the results; beside the pictures without it",
    group: "Output",
    isPerCall: true,
  }),
  with: repeated({
    flags: "--with <file>",
    summary: "picture 2 of every edit, then 3 and so on; repeatable",
    group: "Prompt",
    isPerCall: true,
  }),
  resume: flag({
    flags: "--resume",
    summary: "leave out pictures whose result is there",
    group: "Output",
    isPerCall: true,
  }),
  maxFailures,
  sheet,
  ...manyOptions,
};

type Settings = SettingsOf<typeof options>;

interface Edit {
  readonly index: number;
  readonly input: string;
  readonly path: string;
}

/** `qedit each '*.jpg' -p "…"`. */
export const each = defineCommand({
  summary: "Edit every picture by the same prompt",
  examples: [
    `qedit each '*.jpg' -p "make it winter"`,
    `qedit each 'photos/**/*.png' -p "make it winter" -o winter/ --format jpg`,
    `qedit each portraits/ -p "put the hat of picture 2 on the person" --with hat.png`,
    `qedit each '*.jpg' -p "make it winter" --resume`,
  ],
  positionals: [["<picture...>", "files, patterns, or folders, which stand for the pictures in them"]],
  options,
  async perform({ args, settings: unresolved, given }, terminal) {
    checkInputs([unresolved.prompt]);
    const found = await withoutResults(await picturesOf(args), unresolved, terminal);
    const edits = found.map(
      (picture, index): Edit => ({ index: index + 1, input: picture.path, path: resultPath(picture, unresolved) }),
    );
    refuseSameOutput(
      edits.map(({ path, input }) => ({ path, where: input })),
      "Edit them in two calls, with another -o FOLDER or --format",
    );
    const onSheet = await openSheet(unresolved.sheet, unresolved, terminal);
    const tally: Tally = { done: 0, failed: 0, skipped: 0 };
    const open = await withoutDone(edits, { settings: unresolved, terminal, tally, total: edits.length });
    if (open.length === 0) return;
    const resolved = await resolveEdit({ table: options, settings: unresolved, given, emit: terminal.emit });
    const settings = { ...resolved, prompt: await inputText(resolved.prompt) };
    const read = pictureMemory();
    // A reference that cannot be read is one failure, not one for each picture.
    await read(unresolved.with);
    await compute({ ...settings, memory: unresolved.memory }, terminal, async (context) => {
      const jobs = open.map((edit) => jobOf(edit, { settings, references: unresolved.with, read, terminal, onSheet }));
      const inputs = new Map(open.map(({ index, input }) => [index, input]));
      const told = async ({ index, path }: { index: number; path: string }, end: JobEnd) =>
        tell({ index, input: inputs.get(index)!, path }, end, { terminal, tally });
      await editMany(jobs, { total: edits.length, maxFailures: unresolved.maxFailures, told }, context);
      await onSheet?.write();
    });
    terminal.emit({ kind: "note", text: `${tally.done} done, ${tally.failed} failed, ${tally.skipped} skipped` });
    refuseFailures(tally, "Mend them, and run the same command with --resume");
  },
});

interface Work {
  readonly settings: RunSettings;
  readonly references: readonly string[];
  readonly read: ReadPictures;
  readonly terminal: Terminal;
  readonly onSheet: Sheet | undefined;
}

function jobOf({ index, input, path }: Edit, { settings: all, references, read, terminal, onSheet }: Work): ManyJob {
  const keep = all.keep === undefined ? undefined : join(all.keep, basename(path, extname(path)));
  const pictures = () => read([input, ...references]);
  const planned = {
    ...withSeed({ pictures, settings: { ...all, keep }, path }, (event) =>
      terminal.emit(event.kind === "note" ? { ...event, text: `${input}: ${event.text}` } : event),
    ),
    name: input,
    index,
  };
  return manyJob(planned, {
    terminal,
    written: async ({ image }) =>
      onSheet?.add(index, [
        [basename(input), (await pictures())[0]!.image],
        [basename(path), image],
      ]),
  });
}

// Results of an earlier call are not edited again, unless they were named themselves.
async function withoutResults(
  found: readonly FoundPicture[],
  { output }: Settings,
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
  const left = found.length - kept.length;
  if (left > 0)
    emit({
      kind: "note",
      text: `${left} of ${found.length} pictures left out: ${left === 1 ? "it is a result" : "they are results"} of earlier edits`,
    });
  if (kept.length === 0)
    throw new QeditError("QEDIT_E_USAGE", "Nothing is left to edit: every picture is a result of an earlier edit", {
      hint: "Name a file itself to edit it: qedit each photo-edit.png …",
    });
  return kept;
}

function isBelow(folder: string, path: string): boolean {
  const way = relative(resolve(folder), resolve(path));
  return way !== "" && !way.startsWith("..");
}

function resultPath({ path, below }: FoundPicture, { output, format }: Settings): string {
  const name = `${basename(path, extname(path))}-edit.${format ?? "png"}`;
  return output === undefined ? join(path, "..", name) : join(output, below, name);
}

interface Progress {
  readonly settings: Settings;
  readonly terminal: Terminal;
  readonly tally: Tally;
  readonly total: number;
}

// What is there already is left out when resuming, and otherwise refused before anything is computed.
async function withoutDone(edits: readonly Edit[], { settings, terminal, tally, total }: Progress): Promise<Edit[]> {
  const open: Edit[] = [];
  for (const edit of edits) {
    if (settings.resume && (await stat(edit.path).catch(() => undefined))?.isFile()) {
      tell(edit, { status: "skipped", reason: "done before" }, { terminal, tally });
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
    open.push(edit);
  }
  if (tally.skipped > 0) terminal.emit({ kind: "note", text: `${tally.skipped} of ${edits.length} done before` });
  return open;
}

function tell(
  { index, input, path }: Edit,
  end: JobEnd,
  { terminal, tally }: { terminal: Terminal; tally: Tally },
): void {
  tally[end.status] += 1;
  if (end.status === "done" || terminal.settings.json) terminal.item({ job: index, input, ...end, output: path }, path);
}
