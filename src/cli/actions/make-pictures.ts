// Implements `qedit run`: one picture, several with several seeds, or their plan.
import { driftRecord } from "../../edit/finish/drift-text.js";
import type { FinishedPicture } from "../../edit/finish/finish.js";
import { RANDOM_SEED } from "../../edit/parameters/parameter-kinds.js";
import { stagesElsewhere } from "../../edit/remote/remote-servers.js";
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import { refuseFilesElsewhere } from "../../edit/resolve/files-elsewhere.js";
import { modelLibrary } from "../../edit/resolve/model-library.js";
import { type ResolvedEdit, resolveEdit } from "../../edit/resolve/resolve-edit.js";
import { resolveSettings } from "../../edit/resolve/resolve-settings.js";
import { refuseNoPicture } from "../../edit/resolve/without-picture.js";
import type { Image } from "../../image/image.js";
import type { Picture } from "../../stages/pictures.js";
import { QeditError } from "../../std/errors.js";
import { canTake, resolvedHere, serverFor } from "../client/find-server.js";
import type { MakingSettings } from "../commands/run.js";
import { checkInputs, inputPictures, inputPrompt } from "../files/input.js";
import {
  generatedPath,
  pictureEncoding,
  picturePath,
  refuseUselessQuality,
  seedPath,
} from "../files/picture-output.js";
import type { Sheet } from "../files/sheet-output.js";
import { STREAM } from "../io.js";
import { submitted, withSeed } from "../jobs/edit-job.js";
import { editMany, type JobEnd, type PlannedJob } from "../jobs/many.js";
import { seedResults } from "../jobs/seed-results.js";
import type { Terminal } from "../render/terminal.js";
import { type RemoteSettings, refuseUselessRemote } from "../settings/remote-options.js";
import { seedsOf } from "../settings/seeds.js";
import type { GivenSetting } from "../settings/settings.js";
import { withService } from "../with-service.js";
import { keptFolders, openOutputs } from "./run-outputs.js";

/** A call of `run`. */
interface RunCall {
  readonly args: readonly string[];
  readonly settings: MakingSettings & {
    readonly dryRun: boolean;
    readonly preview: string | undefined;
    readonly server: string | undefined;
    readonly previewTerminal: string;
  } & RemoteSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Makes the pictures of a call. Everything that can be refused is refused before anything is computed. */
export async function makePictures(call: RunCall, terminal: Terminal): Promise<number | undefined> {
  const { args, settings, given } = call;
  refuseContradictions(call);
  refuseUselessRemote(settings, given);
  const seeds = wantedSeeds(settings, settings.dryRun ? () => {} : terminal.emit);
  checkInputs([...args, settings.prompt, settings.mask], terminal.io);
  const paths = resultPaths(args, settings, seeds);
  const kept = keptFolders(settings.keep, seeds);
  const files = { inputs: [...args, settings.mask], paths, kept };
  refuseUselessQuality(pictureEncoding(paths[0]!, settings).format, given);
  const unresolved = { settings, given, force: settings.force, emit: terminal.emit };
  if (settings.dryRun) {
    await refuseNoPicture(args.length, settings);
    refuseFilesElsewhere(settings, { given, elsewhere: stagesElsewhere(settings.remote), emit: terminal.emit });
    const { showPlan } = await import("./show-plan.js");
    const planned = { args, settings: await resolveSettings(unresolved), files };
    return showPlan({ ...planned, isForCard: false, isDryRun: true }, terminal);
  }
  const { sheet, preview } = await openOutputs(files, settings, terminal);
  const onTerminal = await terminal.previews(settings.previewTerminal);
  // Asked when they are about to be made: by then the terminal may have said that it shows no pictures.
  const previewed = () => {
    const previews = [preview, onTerminal?.isPossible() ? onTerminal : undefined].filter((each) => each !== undefined);
    return previews.length > 0 ? (image: Image) => previews.forEach(({ show }) => show(image)) : undefined;
  };
  const server = await serverFor(call, terminal);
  const resolved = server && { ...unresolved, settings: await resolvedHere(unresolved), isResolved: true };
  if (server && resolved && (await canTake(server, [{ images: args, settings: resolved.settings }], terminal))) {
    const { makeThere } = await import("../client/make-there.js");
    const wanted = seeds.map(({ seed }, index) => ({ seed, path: paths[index]! }));
    await makeThere({ ...resolved, args, given, wanted, sheet, previewed: previewed() }, server.client, terminal);
    await preview?.done();
    return undefined;
  }
  await refuseNoPicture(args.length, settings);
  const edit = await resolveEdit(resolved ?? unresolved, modelLibrary(stagesElsewhere(settings.remote)));
  const prompt = await inputPrompt(settings, terminal.io);
  const work = {
    ...{ args, settings, terminal, sheet, edit: withSettings(edit, { prompt }) },
    previewed: previewed(),
  };
  if (seeds.length === 1)
    await makeOne(paths[0]!, { ...work, edit: withSettings(work.edit, { seed: seeds[0]!.seed }) });
  else
    await makeMany(
      seeds.map((each, index) => ({ ...each, path: paths[index]!, keep: kept[index] })),
      work,
    );
  await preview?.done();
  return undefined;
}

/** A seed, and whether it was drawn at random. */
interface WantedSeed {
  readonly seed: bigint;
  readonly isDrawn: boolean;
}

/** The seeds of a call. Several random ones are drawn, so that results can be named by them. */
export function wantedSeeds(settings: MakingSettings, emit: Terminal["emit"]): WantedSeed[] {
  const seeds = seedsOf(settings);
  return seeds.map((seed) => {
    if (seeds.length === 1) return { seed, isDrawn: false };
    const drawn = drawSeed({ seed }, emit);
    return { seed: drawn.settings.seed, isDrawn: drawn.isDrawn };
  });
}

/** Where the pictures of a call go, one for each seed. Throws QEDIT_E_USAGE for a name without a known format. */
export function resultPaths(args: readonly string[], settings: MakingSettings, seeds: readonly WantedSeed[]): string[] {
  const path = args[0] === undefined ? generatedPath(settings) : picturePath(settings, args[0], "-edit");
  return seeds.length === 1 ? [path] : seeds.map(({ seed }) => seedPath(path, seed));
}

interface Work {
  readonly args: readonly string[];
  readonly settings: MakingSettings & RemoteSettings;
  readonly terminal: Terminal;
  readonly sheet: Sheet | undefined;
  readonly previewed: ((image: Image) => void) | undefined;
  readonly edit: ResolvedEdit;
}

async function makeOne(path: string, { args, settings, terminal, sheet, previewed, edit }: Work): Promise<void> {
  // Decode the pictures while the device starts, which takes about a second on a GPU.
  const reading = inputsOf(args, settings, terminal);
  let made: FinishedPicture | undefined;
  const { device, seconds } = await withService(settings, terminal, async (service) => {
    const { pictures } = await reading;
    const planned = withSeed({ resolved: edit, ...lazy(reading), path, result: settings }, terminal.emit);
    const { seed } = planned.resolved.settings;
    const job = service.submit(
      submitted(planned, {
        terminal,
        previewed,
        async written(picture) {
          made = picture;
          await sheet?.add(0, [...original(pictures), [`seed ${seed}`, picture.image]]);
          await sheet?.write();
        },
      }),
    );
    const outcome = await job.outcome;
    if (outcome.state === "failed") throw outcome.error;
  });
  if (path === STREAM || made === undefined) return;
  const { info, drift } = made;
  terminal.result({ output: path, kind: "picture", info, drift: driftRecord(drift), device, seconds }, [path]);
}

interface WantedPicture extends WantedSeed {
  readonly path: string;
  /** Folder of its tensor files. */
  readonly keep: string | undefined;
}

async function makeMany(wanted: readonly WantedPicture[], work: Work): Promise<void> {
  const { args, settings, terminal, sheet, previewed, edit } = work;
  const results = seedResults(terminal);
  const infos = new Map<number, object>();
  const onEnd = async ({ index, path, resolved }: PlannedJob, end: JobEnd) =>
    results.ended(index, { path, seed: resolved.settings.seed, info: infos.get(index) }, end);
  const {
    value: sheetPath,
    device,
    seconds,
  } = await withService(settings, terminal, async (service) => {
    const reading = inputsOf(args, settings, terminal);
    const { pictures } = await reading;
    const jobs = wanted.map(({ seed, isDrawn, path, keep }, index) => {
      const resolved = withSettings(edit, { seed });
      const job = { resolved, ...lazy(reading), isDrawn, path, result: { ...settings, keep } };
      const planned: PlannedJob = { ...job, index: index + 1, name: `seed ${seed}` };
      const written = async ({ image, info }: FinishedPicture) => {
        infos.set(planned.index, info);
        await sheet?.add(planned.index, [[planned.name, image]]);
      };
      return { planned, observer: { terminal, written, previewed } };
    });
    // Fail once for an error that all jobs share, before anything is computed.
    await service.check(jobs[0]!.planned);
    if (pictures.length > 0) await sheet?.add(0, original(pictures));
    await editMany(jobs, { total: jobs.length, maxFailures: undefined, onEnd }, service);
    return results.hasSome() ? sheet?.write() : undefined;
  });
  results.finish({ sheet: sheetPath, device, seconds });
}

// Nothing for a picture that was made from the prompt alone.
function original([first]: readonly Picture[]): [string, Image][] {
  return first === undefined ? [] : [["original", first.image]];
}

/** The pictures of a call, and the mask. */
interface Inputs {
  readonly pictures: readonly Picture[];
  readonly mask: Picture | undefined;
}

async function readInputs(args: readonly string[], { mask }: MakingSettings, { io }: Terminal): Promise<Inputs> {
  const pictures = await inputPictures(args, io);
  return { pictures, mask: mask === undefined ? undefined : (await inputPictures([mask], io))[0] };
}

function inputsOf(args: readonly string[], settings: MakingSettings, terminal: Terminal): Promise<Inputs> {
  const reading = readInputs(args, settings, terminal);
  reading.catch(() => {
    // Thrown when it is awaited.
  });
  return reading;
}

function lazy(reading: Promise<Inputs>): Pick<PlannedJob, "pictures" | "mask"> {
  return {
    pictures: async () => (await reading).pictures,
    mask: async () => (await reading).mask,
  };
}

function withSettings(edit: ResolvedEdit, changed: Partial<ResolvedEdit["settings"]>): ResolvedEdit {
  return { ...edit, settings: { ...edit.settings, ...changed } };
}

/** Throws QEDIT_E_USAGE for contradicting options about several pictures. */
export function refuseContradictions({ settings, given }: Pick<RunCall, "given"> & { settings: MakingSettings }): void {
  const { seeds: list, count, output, seed } = settings;
  if (list !== undefined && count !== undefined)
    throw contradiction("--seeds and --count", "each says how many pictures to make");
  if (list !== undefined && given.get("seed")?.layer === "flag") {
    const hint = seed === RANDOM_SEED ? "Use --seed random --count 4" : undefined;
    throw contradiction("--seeds and --seed", "the list names the seeds", hint);
  }
  if (output === STREAM && seedsOf(settings).length > 1) {
    const hint = "Name a file: -o out.png gives out-seed1.png and so on";
    throw contradiction("-o - and several seeds", "stdout takes one picture", hint);
  }
}

function contradiction(what: string, why: string, hint = "Leave one of them out"): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot use ${what} at once: ${why}`, { hint });
}
