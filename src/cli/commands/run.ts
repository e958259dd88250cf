// qedit run: a whole edit, or several of the same pictures from several seeds.

import { driftRecord } from "../../edit/drift-text.js";
import { checkEdit, edit } from "../../edit/edit.js";
import { flag, number, RANDOM_SEED, type SettingsOf } from "../../stages/option.js";
import type { Picture } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { type Call, defineCommand } from "../command.js";
import { compute } from "../compute.js";
import { checkInputs, inputPictures, inputText } from "../files/input.js";
import { checkOutput, STREAM } from "../files/output.js";
import { numberedPath, picturePath } from "../files/picture-output.js";
import { openSheet, type Sheet, sheet } from "../files/sheet-output.js";
import { editSource, finishEdit, type PlannedEdit, resolveEdit, runOptions, withSeed } from "../jobs/edit-job.js";
import { editMany, type JobEnd, manyJob, type PlannedJob, refuseFailures, type Tally } from "../jobs/many.js";
import type { Terminal } from "../render/terminal.js";
import { resolveSettings } from "../settings/edit-settings.js";
import { manyOptions } from "../settings/options.js";
import { drawSeed, seeds, seedsOf } from "../settings/seeds.js";

const count = number(
  {
    flags: "--count <number>",
    summary: "so many pictures, from the seed and the ones after it",
    group: "Sampling",
    isPerCall: true,
  },
  { minimum: 1, maximum: 10_000, whole: true, initial: undefined },
);

/** Everything that says what to make. */
export const makingOptions = { ...runOptions, seeds, count, sheet, ...manyOptions };

const dryRun = flag({
  flags: "-n, --dry-run",
  summary: "print the plan instead, as `qedit plan`; exit 3 if a model file is missing",
  group: "Output",
  isPerCall: true,
});

const options = { ...makingOptions, dryRun };

type Settings = SettingsOf<typeof options>;

/** `qedit run photo.jpg -p "…"`. */
export const run = defineCommand({
  summary: "Edit pictures: all four stages in one go",
  examples: [
    'qedit run photo.jpg -p "make it black and white"',
    'qedit run person.jpg hat.png -p "put the hat of picture 2 on the person" -o out.png',
    'qedit run photo.jpg -p "make it winter" --seeds 1,5,9..12 --sheet sheet.png',
    'cat photo.jpg | qedit run - -p "make it winter" -o - > out.png',
  ],
  positionals: [["<image...>", "pictures, in the order the prompt counts them; - is stdin"]],
  options,
  async perform(call, terminal) {
    const { args, settings: unresolved, given } = call;
    refuseContradictions(call);
    const many = seedsOf(unresolved);
    checkInputs([...args, unresolved.prompt]);
    const path = picturePath(unresolved, args[0]!, "-edit");
    const paths = many.length === 1 ? [path] : many.map((_, index) => numberedPath(path, index + 1));
    for (const each of paths) await checkOutput(each, unresolved, terminal);
    const onSheet = await openSheet(unresolved.sheet, unresolved, terminal);
    if (unresolved.dryRun) {
      const { showPlan } = await import("../plan-output.js");
      return showPlan(
        {
          args,
          settings: await resolveSettings({ table: options, settings: unresolved, given, emit: terminal.emit }),
          results: many.length,
          isForCard: false,
          isDryRun: true,
        },
        terminal,
      );
    }
    const resolved = await resolveEdit({ table: options, settings: unresolved, given, emit: terminal.emit });
    const settings = { ...resolved, seed: many[0]!, prompt: await inputText(resolved.prompt) };
    const work = { args, settings, terminal, onSheet };
    if (many.length === 1) return runOne(path, work);
    return runMany(
      many.map((seed, index) => ({ seed, path: paths[index]! })),
      { ...work, memory: unresolved.memory },
    );
  },
});

interface Work {
  readonly args: readonly string[];
  readonly settings: PlannedEdit["settings"];
  readonly terminal: Terminal;
  readonly onSheet: Sheet | undefined;
}

async function runOne(path: string, { args, settings, terminal, onSheet }: Work): Promise<void> {
  // Pictures are decoded while the device starts, which takes a GPU's driver a second.
  const decoding = inputPictures(args);
  decoding.catch(() => {
    // Thrown where it is awaited.
  });
  const { value, device, seconds } = await compute(settings, terminal, async (context) => {
    const pictures = await decoding;
    const planned = withSeed({ pictures: async () => pictures, settings, path }, terminal.emit);
    const picture = await edit({ ...editSource(planned), pictures }, context);
    await finishEdit(picture, planned, { terminal });
    await onSheet?.add(0, [
      ["original", pictures[0]!.image],
      [`seed ${planned.settings.seed}`, picture.image],
    ]);
    await onSheet?.write();
    return picture;
  });
  if (path !== STREAM)
    terminal.result(
      { output: path, kind: "picture", info: value.info, drift: driftRecord(value.drift), device, seconds },
      [path],
    );
}

type Output = JobEnd & { readonly output: string; readonly seed: bigint; readonly info?: object };

async function runMany(
  wanted: readonly { seed: bigint; path: string }[],
  { args, settings, terminal, onSheet, memory }: Work & { memory: number | undefined },
): Promise<void> {
  const outputs = new Map<number, Output>();
  const made = new Map<number, Pick<Output, "info">>();
  const tally: Tally = { done: 0, failed: 0, skipped: 0 };
  const told = async ({ index, path, settings: { seed } }: PlannedJob, end: JobEnd) => {
    tally[end.status] += 1;
    outputs.set(index, { output: path, seed, ...end, ...made.get(index) });
    if (end.status === "done" && !terminal.settings.json) terminal.item({}, path);
  };
  const {
    value: sheetPath,
    device,
    seconds,
  } = await compute({ ...settings, memory }, terminal, async (context) => {
    const pictures = await inputPictures(args);
    const jobs = wanted.map(({ seed, path }, index) => {
      const planned = plannedJob({ pictures, settings: { ...settings, seed }, path }, { index: index + 1, terminal });
      return manyJob(planned, {
        terminal,
        async written({ image, info }) {
          made.set(planned.index, { info });
          await onSheet?.add(planned.index, [[planned.name, image]]);
        },
      });
    });
    // What is wrong with all of them is one failure, told before anything is computed.
    await checkEdit(pictures, jobs[0]!.settings, context);
    await onSheet?.add(0, [["original", pictures[0]!.image]]);
    await editMany(jobs, { total: jobs.length, maxFailures: undefined, told }, context);
    return tally.done === 0 ? undefined : onSheet?.write();
  });
  const ordered = [...outputs].sort(([a], [b]) => a - b).map(([, output]) => output);
  if (terminal.settings.json)
    terminal.result({ outputs: ordered, kind: "pictures", sheet: sheetPath, device, seconds }, []);
  const missing = ordered.filter(({ status }) => status !== "done").map(({ seed }) => seed);
  refuseFailures(tally, `Make those again under another name: --seeds ${missing.join(",")} -o FILE`);
}

function plannedJob(
  {
    pictures,
    settings: wanted,
    path,
  }: { pictures: readonly Picture[]; settings: PlannedEdit["settings"]; path: string },
  { index, terminal }: { index: number; terminal: Terminal },
): PlannedJob {
  const { settings, isDrawn } = drawSeed(wanted, terminal.emit);
  const keep = settings.keep === undefined ? undefined : `${settings.keep}/${String(index).padStart(4, "0")}`;
  return {
    pictures: async () => pictures,
    settings: { ...settings, keep },
    isDrawn,
    path,
    index,
    name: `seed ${settings.seed}`,
  };
}

/** Throws QEDIT_E_USAGE for options about several pictures that say different things. */
export function refuseContradictions({
  settings,
  given,
}: Pick<Call<typeof makingOptions>, "settings" | "given">): void {
  const { seeds: list, count: number, output, seed } = settings as Settings;
  if (list !== undefined && number !== undefined)
    throw contradiction("--seeds and --count", "each says how many pictures to make");
  if (list !== undefined && given.get("seed")?.layer === "flag")
    throw contradiction(
      "--seeds and --seed",
      "the list names the seeds",
      seed === RANDOM_SEED ? "Use --seed random --count 4" : undefined,
    );
  if (output === STREAM && seedsOf(settings as Settings).length > 1)
    throw contradiction(
      "-o - and several seeds",
      "stdout takes one picture",
      "Name a file: -o out.png gives out-0001.png and so on",
    );
}

function contradiction(what: string, why: string, hint = "Leave one of them out"): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot use ${what} at once: ${why}`, { hint });
}
