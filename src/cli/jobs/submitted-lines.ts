// A line of a jobs file as a request for a worker elsewhere.
import { cacheKey } from "../../artifacts/artifact-cache.js";
import { jsonName } from "../../edit/parameters/parameter.js";
import { type Pixels, RANDOM_SEED } from "../../edit/parameters/parameter-kinds.js";
import type { NamedBytes } from "../../edit/request/edit-request.js";
import { QeditError } from "../../std/errors.js";
import { fileHash } from "../../std/file-hash.js";
import { readBounded } from "../../std/files.js";
import { refuseJobStreams } from "../files/input.js";
import { generatedPath, pictureEncoding, picturePath, refuseUselessQuality } from "../files/picture-output.js";
import { withPromptOfFile } from "../files/prompt-file.js";
import type { GivenSetting } from "../settings/settings.js";
import { requestOptions } from "../settings/submit-options.js";
import { type JobLine, jobName } from "./job-lines.js";

/** A line that can be sent. */
export interface SendableLine {
  readonly line: number;
  readonly index: number;
  readonly name: string;
  readonly path: string;
  readonly isForced: boolean;
  readonly pictures: () => Promise<readonly NamedBytes[]>;
  readonly mask: () => Promise<NamedBytes | undefined>;
  /** Paths of its pictures and its mask. */
  readonly read: readonly string[];
  /** Values by JSON name. */
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Hash of everything that determines the result. */
  readonly content: string;
}

/** A line that cannot. */
export interface UnsendableLine {
  readonly line: number;
  readonly index: number;
  readonly name: string;
  readonly path: string | undefined;
  readonly error: QeditError;
}

/** Largest picture file that is read. */
const MOST_BYTES = 256 * 1024 ** 2;
/** Settings of a job that are not sent: they say what happens here. */
const OWN = new Set(["output", "mask"]);

/** Reads a line; `defaults` apply to settings that it does not have. */
export async function sendableLine(
  { line, index, images, given: own, fault }: JobLine,
  defaults: ReadonlyMap<string, GivenSetting>,
): Promise<SendableLine | UnsendableLine> {
  let path: string | undefined;
  try {
    if (fault) throw fault;
    const ofJob = await withPromptOfFile(own);
    const given = new Map([...[...defaults].filter(([name]) => name in requestOptions || name === "force"), ...ofJob]);
    const valueOf = <T>(name: string) => given.get(name)?.value as T | undefined;
    const output = valueOf<string>("output");
    refuseJobStreams([...images, valueOf("prompt"), valueOf("mask"), output]);
    const named = { output, format: valueOf<string>("format") };
    path = images[0] === undefined ? generatedPath(named, line) : picturePath(named, images[0], "-edit");
    const quality = { jpegQuality: valueOf<number>("jpegQuality"), webpQuality: valueOf<number>("webpQuality") };
    const { format } = pictureEncoding(path, { ...quality, format: valueOf("format") });
    refuseUselessQuality(format, own);
    const parameters = { ...parametersOf(given), format };
    const [maskPath, isForced] = [valueOf<string>("mask"), valueOf<boolean>("force") === true];
    const pictures = () => Promise.all(images.map(pictureIn));
    const mask = async () => (maskPath === undefined ? undefined : pictureIn(maskPath));
    const hashes = await Promise.all([...(await pictures()), await mask()].map((each) => each && fileHash(each.bytes)));
    const content = cacheKey({ parameters: Object.entries(parameters).sort(), images: images.map(jobName), hashes });
    const read = maskPath === undefined ? images : [...images, maskPath];
    return { line, index, name: jobName(path), path, isForced, pictures, mask, read, parameters, content };
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    return { line, index, name: path === undefined ? `line ${line}` : jobName(path), path, error };
  }
}

function parametersOf(given: ReadonlyMap<string, GivenSetting>): Record<string, unknown> {
  const parameters: Record<string, unknown> = {};
  for (const [key, { value, name }] of given) {
    if (OWN.has(key)) continue;
    if (!(key in requestOptions) && key !== "force")
      throw new QeditError("QEDIT_E_USAGE", `Cannot use ${name} here: it names what is on the worker's machine`, {
        hint: 'Leave it out; the worker\'s own settings hold, and "model" names one of its models',
      });
    if (value !== undefined) parameters[jsonName(key)] = asJson(value);
  }
  return parameters;
}

function asJson(value: unknown): unknown {
  if (value === RANDOM_SEED) return "random";
  if (typeof value === "bigint") return String(value);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const { width, height } = value as Pixels;
  return `${width}x${height}`;
}

async function pictureIn(path: string): Promise<NamedBytes> {
  try {
    return { name: path.split(/[/\\]/).at(-1)!, bytes: await readBounded(path, MOST_BYTES, { hasPipes: true }) };
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code === "ENOENT" ? "it does not exist" : (cause as Error).message;
    throw new QeditError("QEDIT_E_IMAGE", `Cannot read ${path}: ${reason}`, { hint: "Check the path", cause });
  }
}
