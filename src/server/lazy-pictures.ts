// The pictures of a job: decoded when they are looked at. Many may wait, and decoded they are large.
import type { EditRequest } from "../edit/request/edit-request.js";
import { readSize } from "../image/io/read.js";
import { type Picture, readPictures } from "../stages/pictures.js";
import { checkPixels, type ServerLimits } from "./limits.js";

/** Pictures of a job, decoded when they are looked at, and again after they were released. Throws QEDIT_E_IMAGE. */
export class LazyPictures {
  #read: Promise<{ readonly pictures: readonly Picture[]; readonly mask: Picture | undefined }> | undefined;

  constructor(
    private source: () => Promise<EditRequest>,
    private readonly limits: ServerLimits,
  ) {}

  readonly lazy = {
    pictures: async () => (await this.#decoded()).pictures,
    mask: async () => (await this.#decoded()).mask,
  };

  /** From now on they come from here. */
  readAgain(source: () => Promise<EditRequest>): void {
    this.source = source;
  }

  /** Lets go of what was decoded. */
  release(): void {
    this.#read = undefined;
  }

  #decoded() {
    this.#read ??= this.#decode();
    return this.#read;
  }

  async #decode() {
    const { pictures, mask } = await this.source();
    for (const { name, bytes } of mask ? [...pictures, mask] : pictures) {
      const { width, height } = await readSize(bytes, name);
      checkPixels(name, width * height, this.limits);
    }
    const [sent] = mask ? await readPictures([mask]) : [];
    return { pictures: await readPictures(pictures), mask: sent };
  }
}
