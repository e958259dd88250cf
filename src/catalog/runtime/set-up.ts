// Installs the CUDA provider of the installed release in qedit's own folder, and removes it. node_modules is never written to.
import { constants } from "node:fs";
import { copyFile, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { findGpus } from "../../engine/cuda/gpus.js";
import { type Problem, platformProblem } from "../../engine/cuda/inspect-cuda.js";
import { inspectLibraries } from "../../engine/cuda/libraries.js";
import { CORE_FILE, installedRelease, providerFolder, type Release } from "../../engine/cuda/release.js";
import { tryDevice } from "../../engine/device.js";
import { param, QeditError } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { ioFailure, makeFolders } from "../../std/files.js";
import { type Holder, withLock } from "../../std/lock.js";
import { downloadPackage } from "./download-package.js";
import { candidates, type Source, type SourceChoice } from "./sources.js";
import { unpackProvider } from "./unpack.js";
import { findWheels, installWheels, type Wheel } from "./wheels.js";

/** What the user asked for. */
export interface SetupChoice extends SourceChoice {
  /** Whether to replace an installed provider. */
  readonly force: boolean;
  /** Whether to download the NVIDIA libraries that this machine lacks. */
  readonly libraries: boolean;
  readonly dryRun: boolean;
}

/** Listener and cancellation of a setup. */
export interface SetupContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** What setup did, or with a dry run would do. */
export interface SetupReport {
  readonly action: "installed" | "present" | "would install" | "removed" | "would remove" | "absent";
  readonly version: string;
  readonly folder: string;
  /** Where the provider came from; for a download also its URL, bytes and hash. */
  readonly source?: string;
  readonly url?: string;
  readonly bytes?: number;
  readonly sha256?: string;
  /** Packages of NVIDIA's libraries. */
  readonly libraries?: readonly Wheel[];
  /** The trial session at the end: whether it worked, its seconds, and its problems. */
  readonly works?: boolean;
  readonly seconds?: number | undefined;
  readonly problems?: readonly Problem[];
}

/** Installs the provider unless it is there, then opens a session with it. Throws QEDIT_E_DEVICE where there is no CUDA, QEDIT_E_NETWORK and QEDIT_E_IO. */
export async function setUp(choice: SetupChoice, context: SetupContext): Promise<SetupReport> {
  const release = installedRelease();
  const problem = platformProblem(release);
  if (problem) throw new QeditError("QEDIT_E_DEVICE", `Cannot set up CUDA: ${problem.text}`, { hint: problem.remedy });
  const { version, ownFolder } = release;
  if (choice.libraries && !choice.force && !choice.dryRun) await refuseWithoutGpu();
  const sources = await candidates(version, choice);
  const present = await providerFolder(release);
  const isKept = present !== undefined && !choice.force;
  const found = isKept ? undefined : await firstSource(sources, context);
  if (choice.dryRun) return { ...plan(found, release, present), ...(await libraryPlan(choice, present, context)) };
  return withRuntimeLock(dirname(ownFolder), context, async () => {
    const done = found
      ? {
          action: "installed" as const,
          folder: ownFolder,
          source: found.label,
          ...(await install(found, release, context)),
        }
      : { action: "present" as const, folder: present! };
    const wheels = await libraryPlan(choice, done.folder, context);
    if (wheels.libraries) await installWheels(wheels.libraries, { folder: downloadsOf(release), ...context });
    await rm(downloadsOf(release), { recursive: true, force: true });
    return { version, ...done, ...wheels, ...(await session(context)) };
  });
}

async function refuseWithoutGpu(): Promise<void> {
  const { gpus } = await findGpus();
  if (gpus.length > 0) return;
  throw new QeditError("QEDIT_E_DEVICE", "Cannot find an NVIDIA GPU, which NVIDIA's libraries (1.1 GB) are for", {
    hint: `qedit doctor; ${param("force")} fetches them all the same`,
  });
}

function plan(found: Source | undefined, { version, ownFolder }: Release, present: string | undefined): SetupReport {
  if (!found) return { action: "present", version, folder: present! };
  return {
    action: "would install",
    version,
    folder: ownFolder,
    source: found.label,
    ...("download" in found ? { url: found.download.url } : {}),
  };
}

// The wheels of the missing libraries; a library that is installed anywhere is used in place.
async function libraryPlan(
  { libraries }: SetupChoice,
  provider: string | undefined,
  { emit, signal }: SetupContext,
): Promise<Pick<SetupReport, "libraries">> {
  if (!libraries) return {};
  emit({ kind: "activity", text: "looking at NVIDIA's libraries" });
  const { missing, unused } = await inspectLibraries(provider);
  // cuDNN compiles some kernels with nvrtc, if available.
  const wanted =
    missing.length === 0 ? [] : [...missing, ...unused.filter(({ soname }) => soname.startsWith("libnvrtc"))];
  return {
    libraries: await findWheels(
      wanted.map(({ soname }) => soname),
      signal,
    ),
  };
}

/** Removes what setup installed for any release, and unfinished downloads. */
export async function removeRuntime(
  { dryRun }: Pick<SetupChoice, "dryRun">,
  context: Pick<SetupContext, "signal">,
): Promise<SetupReport> {
  const { version, ownFolder } = installedRelease();
  const folder = dirname(ownFolder);
  const names = await readdir(folder).catch(() => []);
  if (names.length === 0) return { action: "absent", version, folder };
  if (dryRun) return { action: "would remove", version, folder };
  await withRuntimeLock(folder, context, () =>
    rm(folder, { recursive: true, force: true }).catch((error: unknown) => {
      throw ioFailure("write", folder, error);
    }),
  );
  return { action: "removed", version, folder };
}

// The first source that can be reached.
async function firstSource(
  sources: Awaited<ReturnType<typeof candidates>>,
  { emit, signal }: SetupContext,
): Promise<Source> {
  const failures: QeditError[] = [];
  for (const [index, { label, find }] of sources.entries()) {
    emit({ kind: "activity", text: `looking at ${label}` });
    try {
      return await find(signal);
    } catch (error) {
      if (!(error instanceof QeditError) || error.code !== "QEDIT_E_NETWORK") throw error;
      failures.push(error);
      const next = sources[index + 1];
      if (next) emit({ kind: "note", text: `${error.message}; taking ${next.label} instead of ${label}` });
    }
  }
  throw failures[0]!;
}

function downloadsOf({ ownFolder }: Release): string {
  return join(dirname(ownFolder), "downloads");
}

async function install(
  source: Source,
  release: Release,
  { emit, signal }: SetupContext,
): Promise<Pick<SetupReport, "url" | "bytes" | "sha256">> {
  const { folder, ownFolder, version } = release;
  const staging = `${ownFolder}.${process.pid}.new`;
  try {
    await rm(staging, { recursive: true, force: true });
    await makeFolders(staging);
    if ("download" in source)
      emit({ kind: "note", text: `fetching ${source.download.name} from ${source.label}: ${source.download.url}` });
    const fetched =
      "download" in source
        ? await downloadPackage(source.download, { folder: downloadsOf(release), emit, signal })
        : undefined;
    emit({ kind: "activity", text: `unpacking ${source.label}` });
    await unpackProvider(fetched?.path ?? (source as { path: string }).path, staging, { version });
    // ONNX Runtime looks for its providers in its own folder, so it is copied too: as a clone without space where the file system can.
    await copyFile(join(folder, CORE_FILE), join(staging, CORE_FILE), constants.COPYFILE_FICLONE);
    await rm(ownFolder, { recursive: true, force: true });
    await rename(staging, ownFolder);
    return "download" in source ? { url: source.download.url, bytes: fetched!.bytes, sha256: fetched!.sha256 } : {};
  } catch (error) {
    if (error instanceof QeditError || signal.aborted) throw error;
    throw ioFailure("write", ownFolder, error);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function session({ emit }: SetupContext): Promise<Pick<SetupReport, "works" | "seconds" | "problems">> {
  emit({ kind: "activity", text: "opening a session on cuda:0" });
  const { works, seconds, problems } = await tryDevice("cuda");
  return { works, seconds, problems };
}

// What a killed setup was unpacking.
async function removeStaging(folder: string): Promise<void> {
  for (const name of (await readdir(folder)).filter((each) => /\.\d+\.new$/.test(each)))
    await rm(join(folder, name), { recursive: true, force: true });
}

// One setup at a time: two would write the same part of a download.
async function withRuntimeLock<T>(
  folder: string,
  { signal }: Pick<SetupContext, "signal">,
  work: () => Promise<T>,
): Promise<T> {
  await makeFolders(folder).catch((error: unknown) => {
    throw new QeditError("QEDIT_E_IO", ioFailure("write", folder, error).message, {
      cause: error,
      hint: "Set QEDIT_HOME to a folder that can be written",
    });
  });
  const onWait = ({ pid }: Holder) => {
    throw new QeditError("QEDIT_E_IO", `Cannot set up now: another qedit setup is running (process ${pid})`, {
      hint: "Wait until it is done",
    });
  };
  return withLock(join(dirname(folder), ".runtime"), { signal, onWait }, async () => {
    await removeStaging(folder);
    return work();
  });
}
