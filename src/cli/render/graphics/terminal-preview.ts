// Previews on a terminal that shows pictures: which protocol it has is found while models are opened, and previews are drawn as they come.
import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Image } from "../../../image/image.js";
import type { Io } from "../../io.js";
import type { Renderer } from "../renderer.js";
import { type GraphicsProtocol, hasNoPictures, isMultiplexed, protocolOf } from "./graphics-protocol.js";
import { terminalPicture } from "./terminal-picture.js";
import { askTerminal, type TerminalAnswer } from "./terminal-query.js";

/** Draws previews; one that comes while another is encoded replaces those that wait. */
export interface TerminalPreview {
  readonly show: (image: Image) => void;
  /** Whether previews may be shown: false once the terminal has said that it shows no pictures. */
  readonly isPossible: () => boolean;
  /** Waits until nothing is asked or encoded any more. */
  readonly done: () => Promise<void>;
}

/** Where previews are drawn. */
interface Place {
  /** `auto`, or a protocol. */
  readonly choice: string;
  readonly io: Pick<Io, "stdin" | "stderr" | "env">;
  readonly draw: NonNullable<Renderer["draw"]>;
  readonly signal: AbortSignal;
}

/** Screens of terminals that do not say how many rows they have. */
const USUAL_ROWS = 24;
/** kitty knows pictures by numbers of 32 bits; a drawn one meets no other program's. */
const MOST_IDS = 2 ** 31;

/** Milliseconds that an answer is waited for before the work goes on: what is typed meanwhile is read together with it. */
const FIRST_WAIT = 100;
/** Milliseconds in which a terminal takes a picture. Over a line that needs longer, writing holds up the work: then pictures are rare. */
const LONGEST_WRITE = 50;
/** How many times as long as such a write there is none. */
const PAUSE = 20;

/** Opens the previews of a call; undefined where no picture would arrive. */
export async function openTerminalPreview({ choice, io, draw, signal }: Place): Promise<TerminalPreview | undefined> {
  const { stdin, stderr, env } = io;
  const named = choice === "auto" ? protocolOf(env) : (choice as GraphicsProtocol);
  if (choice === "auto" && (isMultiplexed(env) || (named === undefined && hasNoPictures(env)))) return undefined;
  let found: { protocol: GraphicsProtocol | undefined; cell: TerminalAnswer["cell"] } | undefined;
  // Sixels are as large as they are: the rows that they take follow from the size of a cell.
  const isAsked = named === undefined || named === "sixel";
  const asking = isAsked ? askTerminal({ stdin, stderr, signal }) : Promise.resolve(undefined);
  const finding = asking.then((answer) => {
    found = { protocol: named ?? (answer?.hasSixel ? "sixel" : undefined), cell: answer?.cell };
  });
  if (isAsked) await Promise.race([finding, delay(FIRST_WAIT)]);
  const id = randomInt(1, MOST_IDS);
  let quietUntil = 0;
  let waiting: Image | undefined;
  let drawing: Promise<unknown> | undefined;
  const drawAll = async () => {
    for (let image = waiting; image !== undefined; image = waiting) {
      waiting = undefined;
      const { columns = 0, rows = USUAL_ROWS } = stderr;
      const picture = await terminalPicture(
        image,
        { protocol: found!.protocol!, cell: found!.cell, columns, rows },
        id,
      );
      if (!picture) continue;
      const start = performance.now();
      draw(picture);
      const taken = performance.now() - start;
      if (taken > LONGEST_WRITE) quietUntil = performance.now() + PAUSE * taken;
    }
  };
  return {
    isPossible: () => found === undefined || found.protocol !== undefined,
    show(image) {
      if (found?.protocol === undefined || performance.now() < quietUntil) return;
      waiting = image;
      drawing ??= drawAll()
        // Ignore: previews are optional. The terminal gets no more of them.
        .catch(() => (found = { protocol: undefined, cell: undefined }))
        .finally(() => (drawing = undefined));
    },
    async done() {
      await finding;
      await drawing;
    },
  };
}
