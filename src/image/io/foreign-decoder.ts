// Has HEIC and JPEG XL pictures decoded by a thread: by the optional packages libheif-js and @jsquash/jxl.

import { Worker } from "node:worker_threads";
import { QeditError } from "../../std/errors.js";
import { packageModule } from "../../std/package-files.js";
import { type AlphaPlane, withoutAlpha } from "../alpha.js";
import type { Image } from "../image.js";
import { alphaOfPixels } from "./alpha-plane.js";

/** What the thread is given. */
export interface Task {
  readonly format: keyof typeof PACKAGES;
  readonly bytes: Uint8Array;
}

/** What it answers: rgba [height, width, 4], 0..255, turned as the file says. */
export interface Decoded {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array;
}

/** The package that reads each format. */
const PACKAGES = { HEIC: "libheif-js", "JPEG XL": "@jsquash/jxl" } as const;

/** Longest that a picture may take, milliseconds: the largest of cameras take seconds. */
const LONGEST = 120_000;

const WORKER = packageModule("image/io/foreign-worker");

/** A decoded picture, and how transparent it is if it is. */
interface ForeignPicture {
  readonly image: Image;
  readonly alpha?: AlphaPlane;
}

/** Decodes a picture. Throws QEDIT_E_IMAGE where the package is not installed, an Error with the reason for a file that cannot be decoded. */
export async function decodeForeign(task: Task, name: string): Promise<ForeignPicture> {
  try {
    const { width, height, rgba } = await answerOf(task);
    const alpha = alphaOfPixels(rgba);
    const image = withoutAlpha({ width, height, channels: 4, data: rgba });
    return alpha === undefined ? { image } : { image, alpha };
  } catch (cause) {
    if (!["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND"].includes((cause as NodeJS.ErrnoException).code ?? ""))
      throw cause;
    const reader = PACKAGES[task.format];
    throw new QeditError(
      "QEDIT_E_IMAGE",
      `Cannot read ${name}: it is ${task.format}, and ${reader}, which reads it, is not installed`,
      {
        hint: `Convert it to JPEG or PNG first, or install the reader where qedit is: npm install ${reader}`,
        cause,
      },
    );
  }
}

function answerOf(task: Task): Promise<Decoded> {
  // The console of the thread is not shown: what libheif says there is for its developers.
  const worker = new Worker(WORKER, { workerData: task, stdout: true, stderr: true });
  return new Promise<Decoded>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`it takes longer than ${LONGEST / 1000} s`)), LONGEST);
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", () => {
      clearTimeout(timer);
      reject(new Error("its decoder stopped"));
    });
  }).finally(() => void worker.terminate());
}
