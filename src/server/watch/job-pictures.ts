// The pictures that job files name belong to these jobs, while they wait, while they are made and afterwards: the folder's own prompt takes none of them.
import { lstat, readdir } from "node:fs/promises";
import { join, normalize } from "node:path";
import { PROCESSING } from "./claims.js";
import { JOB_ENDING, picturesOf } from "./watched-job.js";

/** Where job files go. */
const ENDED = ["done", "failed"];

/** A job file that has been made, or has failed. */
interface EndedJob {
  readonly pictures: readonly string[];
  /** Milliseconds since the epoch, by the clock of the folder's file system. */
  readonly at: number;
}

/** The pictures of the jobs of a folder. */
export class JobPictures {
  /** By path. Nothing in these folders is replaced: each file is read once. */
  #ended: ReadonlyMap<string, EndedJob> = new Map();

  constructor(private readonly folder: string) {}

  /** Names of pictures of jobs that are being made. */
  async ofRunning(): Promise<readonly string[]> {
    const named: string[] = [];
    for (const path of await jobFiles(join(this.folder, PROCESSING))) named.push(...(await namedBy(path)));
    return named;
  }

  /** When the last job that names a picture ended: what has changed since then is another picture. */
  async ofEnded(): Promise<ReadonlyMap<string, number>> {
    const paths = (await Promise.all(ENDED.map((name) => jobFiles(join(this.folder, name))))).flat();
    const ended = new Map<string, EndedJob>();
    for (const path of paths) ended.set(path, this.#ended.get(path) ?? (await endedJob(path)));
    this.#ended = ended;
    const last = new Map<string, number>();
    for (const { pictures, at } of ended.values())
      for (const name of pictures) last.set(name, Math.max(at, last.get(name) ?? 0));
    return last;
  }
}

/** Names of the pictures that a job file names, as they are in the folder; none of one that cannot be read. */
async function namedBy(path: string): Promise<readonly string[]> {
  return (await picturesOf(path).catch(() => [])).map((name) => normalize(name));
}

async function endedJob(path: string): Promise<EndedJob> {
  const found = await lstat(path).catch(() => undefined);
  return { pictures: await namedBy(path), at: found?.ctimeMs ?? 0 };
}

async function jobFiles(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith(JOB_ENDING)).map((name) => join(folder, name));
}
