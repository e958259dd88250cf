// Whether an edit fits into memory, and if it does not, which switch makes it fit: tried out on the plan itself.

import type { Device } from "../../engine/providers.js";
import type { Source } from "../../image/resize/size-plan.js";
import { MEGAPIXEL, SIDE_MULTIPLE } from "../../image/resize/sizes.js";
import { gigabytes } from "../../std/byte-sizes.js";
import { param } from "../../std/errors.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { EditRuns } from "./edit-runs.js";
import { type SessionMemory, sessionMemory } from "./session-memory.js";
import { mostMemory } from "./stage-plan.js";

/** "fits", "tight" when other programs must give memory back, "no", or "unknown". */
export type Fit = "fits" | "tight" | "no" | "unknown";

/** Memory that is needed against what is there, in bytes. */
export interface MemoryNeed {
  readonly needed: number;
  /** The stage that needs it. */
  readonly stage: string;
  /** undefined where nobody said it. */
  readonly total: number | undefined;
  readonly available: number | undefined;
  readonly fit: Fit;
  /** Weights that stay in their files; they want RAM besides, and are read again where there is not enough. */
  readonly mapped: number;
}

/** A change that makes an edit fit, or that it runs faster with. */
export interface FitAdvice {
  /** As it is typed: `--megapixels 0.6`; undefined for what no switch changes. */
  readonly change: string | undefined;
  readonly text: string;
}

/** Compares the stage that needs most with what there is. */
export function memoryNeed(
  kind: "ram" | "gpu",
  stages: readonly { readonly stage: string; readonly memory: SessionMemory }[],
  has: { total: number; available: number } | undefined,
): MemoryNeed {
  const [first, ...others] = stages;
  const largest = others.reduce((most, each) => (each.memory[kind] > most!.memory[kind] ? each : most), first);
  const needed = largest?.memory[kind] ?? 0;
  const mapped = kind === "ram" ? Math.max(0, ...stages.map(({ memory }) => memory.mapped)) : 0;
  return {
    needed,
    stage: largest?.stage ?? "",
    total: has?.total,
    available: has?.available,
    fit: fitOf(needed, has),
    mapped,
  };
}

function fitOf(needed: number, has: { total: number; available: number } | undefined): Fit {
  if (has === undefined) return "unknown";
  if (needed <= has.available) return "fits";
  return needed <= has.total ? "tight" : "no";
}

/** The memory that an edit has to fit into. */
export interface Room {
  readonly bytes: number;
  /** "ram" is the machine's, "gpu" the card's, "vram" what --vram says. */
  readonly of: "ram" | "gpu" | "vram";
}

/** What advice is found with: the edit, and its memory at other sizes. */
export interface FitQuestion {
  readonly sources: readonly Source[];
  readonly settings: ResolvedSettings;
  readonly room: Room;
  /** Bytes of it that the edit takes at other settings or with fewer pictures. */
  readonly needs: (sources: readonly Source[], settings: ResolvedSettings) => Promise<number>;
  /** The least that the edit as it is can be made in, with everything streamed that may be; undefined where nothing streams. */
  readonly least: () => Promise<number | undefined>;
  /** RAM that the same edit takes on the CPU, and what is free; undefined on the CPU. */
  readonly onCpu: (() => Promise<{ readonly needed: number; readonly available: number }>) | undefined;
}

/** Changes that make an edit fit that does not: more memory, fewer pixels, fewer pictures, the CPU. */
export async function fitAdvice({ sources, settings, room, needs, least, onCpu }: FitQuestion): Promise<FitAdvice[]> {
  const fits = async (pictures: readonly Source[], changed: ResolvedSettings) =>
    (await needs(pictures, changed)) <= room.bytes;
  if (await fits(sources, settings)) return [];
  const where = {
    ram: `the ${gigabytes(room.bytes)} that memory has free`,
    gpu: `the ${gigabytes(room.bytes)} that the GPU has free`,
    vram: param("vram"),
  }[room.of];
  const advice: FitAdvice[] = [];
  const enough = await least();
  if (enough !== undefined)
    advice.push(
      room.of === "vram"
        ? { change: param("vram", roundedUp(enough)), text: "is the least that it fits into" }
        : { change: undefined, text: `it needs ${gigabytes(enough)} at least` },
    );
  const megapixels = await largestMegapixels(
    (count) => fits(sources, { ...settings, size: undefined, megapixels: count }),
    settings,
  );
  if (megapixels !== undefined)
    advice.push({ change: param("megapixels", megapixels), text: `is the largest size that fits into ${where}` });
  for (let count = sources.length - 1; count >= 1; count -= 1) {
    const fewer = await needs(sources.slice(0, count), settings);
    if (fewer > room.bytes) continue;
    advice.push({
      change: undefined,
      text: `with ${count} ${count === 1 ? "picture" : "pictures"} instead of ${sources.length} it needs ${gigabytes(fewer)}`,
    });
    break;
  }
  const cpu = await onCpu?.();
  if (cpu && cpu.needed <= cpu.available)
    advice.push({ change: param("device", "cpu"), text: `needs ${gigabytes(cpu.needed)} of RAM and much more time` });
  if (megapixels === undefined) advice.push({ change: undefined, text: `no size fits into ${where}` });
  return advice;
}

// As the parameter `vram` takes it.
function roundedUp(bytes: number): string {
  const mebibytes = Math.ceil(bytes / 1024 ** 2);
  return mebibytes < 1024 ? `${mebibytes}M` : `${(Math.ceil((mebibytes / 1024) * 10) / 10).toFixed(1)}G`;
}

/** The most memory that any network of the runs takes on the CPU, where nothing limits it. */
export function unlimitedNeed({ runs, pictureBytes }: EditRuns, device: Device): SessionMemory {
  return mostMemory(
    [...runs].flatMap(([network, made]) =>
      made.length === 0
        ? []
        : [
            sessionMemory(
              network,
              made.map(({ lengths }) => lengths),
              { device, pictureBytes, plan: undefined },
            ),
          ],
    ),
  );
}

/** Megapixels are tried in these steps. */
const STEP = 0.05;

// The most, in steps, at which it fits; undefined when the smallest does not.
async function largestMegapixels(
  fits: (megapixels: number) => Promise<boolean>,
  { megapixels, size }: ResolvedSettings,
): Promise<number | undefined> {
  const now = size === undefined ? (megapixels ?? 1) : (size.width * size.height) / MEGAPIXEL;
  let [low, high] = [0, Math.max(Math.ceil(now / STEP) - 1, 0)];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (await fits(rounded(middle))) low = middle;
    else high = middle - 1;
  }
  return low > 0 && rounded(low) > SIDE_MULTIPLE ** 2 / MEGAPIXEL && (await fits(rounded(low)))
    ? rounded(low)
    : undefined;
}

function rounded(steps: number): number {
  return Number((steps * STEP).toFixed(2));
}
