// Whether an edit fits into memory, and if not, which settings would make it fit, found by planning with them.

import type { Device } from "../../engine/providers.js";
import type { Source } from "../../image/resize/size-plan.js";
import { MEGAPIXEL } from "../../image/resize/sizes.js";
import { gigabytes } from "../../std/byte-sizes.js";
import { param } from "../../std/errors.js";
import type { ResolvedSettings } from "../resolve/resolve-edit.js";
import type { EditRuns } from "./edit-runs.js";
import { type SessionMemory, sessionMemories } from "./session-memory.js";
import { mostMemory } from "./stage-plan.js";

/** "fits" in available memory; "tight": only in total memory, if other programs free some; "no"; "unknown". */
export type Fit = "fits" | "tight" | "no" | "unknown";

/** Needed and available memory, in bytes. */
export interface MemoryNeed {
  readonly needed: number;
  /** The stage that needs most. */
  readonly stage: string;
  /** undefined if unknown. */
  readonly total: number | undefined;
  readonly available: number | undefined;
  readonly fit: Fit;
  /** Memory-mapped weights; they use RAM in addition, and are read again if there is not enough. */
  readonly mapped: number;
}

/** A change that makes an edit fit. */
export interface FitAdvice {
  /** As typed: `--megapixels 0.6`; undefined if it is not an option. */
  readonly change: string | undefined;
  readonly text: string;
}

/** What is to spare of RAM: in the stage that needs most, processes took up to 6 % more than planned (bench/README.md). The memory of a GPU is planned with a margin. */
const RAM_MARGIN = 1.07;

/** Compares the stage that needs most with the memory of the machine. */
export function memoryNeed(
  kind: "ram" | "gpu",
  stages: readonly { readonly stage: string; readonly memory: SessionMemory }[],
  machine: { total: number; available: number } | undefined,
): MemoryNeed {
  const [first, ...others] = stages;
  const largest = others.reduce((most, each) => (each.memory[kind] > most!.memory[kind] ? each : most), first);
  const needed = largest?.memory[kind] ?? 0;
  const mapped = kind === "ram" ? Math.max(0, ...stages.map(({ memory }) => memory.mapped)) : 0;
  return {
    needed,
    stage: largest?.stage ?? "",
    total: machine?.total,
    available: machine?.available,
    fit: fitOf(needed * (kind === "ram" ? RAM_MARGIN : 1), machine),
    mapped,
  };
}

function fitOf(needed: number, machine: { total: number; available: number } | undefined): Fit {
  if (machine === undefined) return "unknown";
  if (needed <= machine.available) return "fits";
  return needed <= machine.total ? "tight" : "no";
}

/** The memory that an edit has to fit into. */
export interface Room {
  readonly bytes: number;
  /** Free RAM, free GPU memory, or the value of --vram. */
  readonly of: "ram" | "gpu" | "vram";
}

/** An edit, and functions that give its memory with other settings. */
export interface FitRequest {
  readonly sources: readonly Source[];
  readonly settings: ResolvedSettings;
  readonly room: Room;
  /** Bytes that the edit needs with other settings or fewer pictures. */
  readonly needs: (sources: readonly Source[], settings: ResolvedSettings) => Promise<number>;
  /** The smallest memory that the unchanged edit fits into, with as much streamed as possible; undefined if nothing can be streamed. */
  readonly least: () => Promise<number | undefined>;
  /** RAM that the same edit needs on the CPU, and available RAM; undefined on the CPU. */
  readonly onCpu: (() => Promise<{ readonly needed: number; readonly available: number }>) | undefined;
}

/** Changes that would make an edit fit: more memory, fewer pixels, fewer pictures, the CPU. Empty if it fits. */
export async function fitAdvice({ sources, settings, room, needs, least, onCpu }: FitRequest): Promise<FitAdvice[]> {
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

// In the format of the parameter `vram`.
function roundedUp(bytes: number): string {
  const mebibytes = Math.ceil(bytes / 1024 ** 2);
  return mebibytes < 1024 ? `${mebibytes}M` : `${(Math.ceil((mebibytes / 1024) * 10) / 10).toFixed(1)}G`;
}

/** RAM that has to be free for an edit on the CPU without a limit, in bytes: what it is planned to take, and some to spare. */
export function unlimitedNeed(runs: EditRuns, device: Device): number {
  return RAM_MARGIN * mostMemory([...sessionMemories(runs, { device, plans: undefined }).values()]).ram;
}

/** Step of the search over megapixels. */
const STEP = 0.05;

// Binary search for the largest size that fits; undefined if the smallest does not.
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
  return low > 0 && (await fits(rounded(low))) ? rounded(low) : undefined;
}

function rounded(steps: number): number {
  return Number((steps * STEP).toFixed(2));
}
