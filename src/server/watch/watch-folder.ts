// A watched folder: what is put into it is edited, and goes to `done/` or `failed/`. Several machines may watch one folder.
import { lstat, readdir } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { failureOf, QeditError, spelled } from "../../std/errors.js";
import type { EditServer } from "../edit-server.js";
import { asJsonKey } from "../http/http-error.js";
import type { Log } from "../log.js";
import { type Claim, claim, clockOf, folderWithin, releaseAbandoned, writeFree } from "./claims.js";
import { JobPictures } from "./job-pictures.js";
import {
  hasOwnPrompt,
  JOB_ENDING,
  leadsOut,
  PICTURE_ENDINGS,
  picturesOf,
  readJobFile,
  readPictureFile,
} from "./watched-job.js";

/** Milliseconds between two looks. */
const INTERVAL = 500;
/** Milliseconds without a change after which a file is taken for written to its end. */
const SETTLED_AFTER = 1000;
/** Milliseconds that a job file waits for its pictures. */
const PICTURES_WITHIN = 60_000;
/** Milliseconds that results of a drained server may take to be written. */
const WRITTEN_WITHIN = 5_000;

/** Watching; whoever started it stops it. */
export interface Watching {
  /** Takes nothing more, and waits for what was begun; once the server is drained, seconds at most. */
  readonly stop: (drained: Promise<unknown>) => Promise<void>;
}

/** Watches a folder, which must exist. Throws QEDIT_E_IO. */
export async function watchFolder(server: EditServer, folder: string, log: Log): Promise<Watching> {
  // Also says at once that it can be written to.
  await clockOf(folder);
  const jobPictures = new JobPictures(folder);
  const running = new Set<Promise<void>>();
  let isStopped = false;
  let wake = () => {};
  const look = async () => {
    for (const name of await releaseAbandoned(folder))
      log("warn", `${join(folder, name)} was abandoned, and waits again`);
    // What this machine cannot begin now is left to others.
    const room = server.service.devices.length + 1 - running.size;
    for (const name of (await settledFiles(folder, jobPictures)).slice(0, Math.max(0, room))) {
      if (isStopped || server.phase !== "ready") return;
      const claimed = await claim(folder, name);
      if (claimed === undefined) continue;
      const work = make(claimed, { server, folder, log }).finally(() => running.delete(work));
      running.add(work);
    }
  };
  const loop = (async () => {
    while (!isStopped) {
      await look().catch((error: Error) => log("error", `cannot look into ${folder}: ${error.message}`));
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, INTERVAL);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  })();
  return {
    async stop(drained) {
      isStopped = true;
      wake();
      const ended = loop.then(() => Promise.allSettled([...running]));
      const late = drained.then(() => sleep(WRITTEN_WITHIN, "late", { ref: false }));
      if ((await Promise.race([ended, late])) === "late")
        log("error", `files of ${folder} are not written yet: what is left in processing/ is taken up again`);
    },
  };
}

interface Surroundings {
  readonly server: EditServer;
  readonly folder: string;
  readonly log: Log;
}

// Makes one claimed file. Its result is written before it counts as done: after a crash it is made again, to the same bytes.
async function make(claimed: Claim, { server, folder, log }: Surroundings): Promise<void> {
  const where = join(folder, claimed.name);
  try {
    const read = claimed.name.endsWith(JOB_ENDING) ? readJobFile : readPictureFile;
    const { request, output } = await read(claimed.path, folder, server.limits.body);
    const job = await server.submit(request);
    await job.outcome;
    const result = await writeFree(await folderWithin(folder, "done"), output, await job.content());
    await claimed.moveTo("done");
    log("info", `${where} is done`, { file: where, result, job: job.id });
  } catch (error) {
    const { code, message, hint } = failureOf(error);
    if (code === "QEDIT_E_TERMINATED" || code === "QEDIT_E_BUSY") {
      await claimed.release().catch((failure: Error) => log("error", failure.message));
      return;
    }
    const failure = {
      code,
      message: spelled(message, asJsonKey),
      ...(hint !== undefined && { hint: spelled(hint, asJsonKey) }),
    };
    log("warn", `${where} failed: ${failure.message}`, { file: where, code });
    const report = Buffer.from(`${JSON.stringify({ error: failure }, null, 2)}\n`);
    await folderWithin(folder, "failed")
      .then((failed) => writeFree(failed, `${claimed.name}.error.json`, report))
      .then(() => claimed.moveTo("failed"))
      .catch((own: Error) => log("error", own.message));
  }
}

// Files that can be begun, the oldest first: job files whose pictures are there, and pictures where the folder says what to do with them.
async function settledFiles(folder: string, jobPictures: JobPictures): Promise<readonly string[]> {
  // Before the folder is read and after: a job file is claimed, and put back, at any moment.
  const wanted = new Set(await jobPictures.ofRunning());
  const names = (await readdir(folder)).filter((name) => !name.startsWith("."));
  const jobs = names.filter((name) => name.endsWith(JOB_ENDING));
  const isPicture = (name: string) => PICTURE_ENDINGS.includes(extname(name).toLowerCase());
  const pictures = (await hasOwnPrompt(folder)) ? names.filter(isPicture) : [];
  if (jobs.length + pictures.length === 0) return [];
  const now = await clockOf(folder);
  const found: { readonly name: string; readonly since: number }[] = [];
  for (const name of jobs) {
    const age = await ageOf(join(folder, name), now);
    const named = await picturesOf(join(folder, name)).catch((error: unknown) => isUnfinished(error, age));
    for (const picture of named ?? []) wanted.add(normalize(picture));
    if (named === undefined || age === undefined || age < SETTLED_AFTER) continue;
    const awaited = await Promise.all(named.map((picture) => isAwaited(folder, picture, now)));
    // Those that never come are its fault, and named in its error.
    if (!awaited.includes(true) || age > PICTURES_WITHIN) found.push({ name, since: age });
  }
  if (pictures.length > 0) for (const picture of await jobPictures.ofRunning()) wanted.add(picture);
  const ended = pictures.length > 0 ? await jobPictures.ofEnded() : new Map<string, number>();
  for (const name of pictures.filter((each) => !wanted.has(each))) {
    const age = await ageOf(join(folder, name), now);
    if (age !== undefined && age >= SETTLED_AFTER && now - age > (ended.get(name) ?? 0))
      found.push({ name, since: age });
  }
  return found.sort((a, b) => b.since - a.since).map(({ name }) => name);
}

// Whether a picture is still to come, or to be written to its end. What leads out of the folder, or is no file, is refused and not waited for.
async function isAwaited(folder: string, name: string, now: number): Promise<boolean> {
  if (leadsOut(name)) return false;
  const found = await lstat(join(folder, name)).catch(() => undefined);
  if (found !== undefined && !found.isFile()) return false;
  return found === undefined || now - Math.max(found.mtimeMs, found.ctimeMs) < SETTLED_AFTER;
}

// A job file that is not JSON yet may be half written; one that stays so is begun, and fails by name.
function isUnfinished(error: unknown, age: number | undefined): readonly string[] | undefined {
  if (!(error instanceof QeditError) || age === undefined) return undefined;
  return age > PICTURES_WITHIN ? [] : undefined;
}

// Milliseconds since the last change; undefined for what is no file.
async function ageOf(path: string, now: number): Promise<number | undefined> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isFile() ? now - Math.max(found.mtimeMs, found.ctimeMs) : undefined;
}
