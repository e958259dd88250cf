// The NVIDIA GPUs of this machine and their driver: from nvidia-smi, else from the driver's files in /proc, else from the PCI bus.
import { execFile } from "node:child_process";
import { access, constants, readdir, readFile } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { promisify } from "node:util";

/** One GPU; what its source does not report is undefined. */
export interface Gpu {
  readonly index: number;
  readonly name: string;
  readonly driver: string | undefined;
  /** Total memory in bytes. */
  readonly memory: number | undefined;
  /** Free memory in bytes. */
  readonly freeMemory: number | undefined;
  /** Compute capability, such as 8.9. */
  readonly capability: string | undefined;
}

/** The GPUs that were found. */
export interface Gpus {
  readonly gpus: readonly Gpu[];
  /** Where they were found: `nvidia-smi`, `/proc/driver/nvidia`, `the PCI bus`. */
  readonly source: string | undefined;
  /** First line of nvidia-smi's output when it failed. */
  readonly failure: string | undefined;
}

const FIELDS = ["index", "name", "driver_version", "memory.total", "memory.free", "compute_cap"];
const MIB = 1024 ** 2;

/** Milliseconds. nvidia-smi takes several seconds to wake an idle GPU, and hangs when a driver is broken. */
const TIMEOUT = 20_000;

/** Looks for GPUs; never throws. */
export async function findGpus(): Promise<Gpus> {
  let failure: string | undefined;
  for (const program of programs()) {
    if (!(await isInstalled(program))) continue;
    try {
      const { stdout } = await promisify(execFile)(
        program,
        [`--query-gpu=${FIELDS.join(",")}`, "--format=csv,noheader,nounits"],
        { timeout: TIMEOUT, windowsHide: true },
      );
      const gpus = parseGpus(stdout);
      if (gpus.length > 0) return { gpus, source: "nvidia-smi", failure: undefined };
      failure = firstLine(stdout);
      break;
    } catch (error) {
      const { code, stdout, stderr, message } = error as NodeJS.ErrnoException & { stdout?: string; stderr?: string };
      // Not installed, or without permission.
      if (code === "ENOENT" || code === "EACCES") continue;
      failure = firstLine(stdout || stderr || message);
      break;
    }
  }
  const fromDriver = await gpusOfDriver();
  if (fromDriver.length > 0) return { gpus: fromDriver, source: "/proc/driver/nvidia", failure };
  const onBus = await gpusOnBus();
  return { gpus: onBus, source: onBus.length > 0 ? "the PCI bus" : undefined, failure };
}

/** Parses nvidia-smi's output for FIELDS: one line per GPU, with `[N/A]` for unknown values. */
export function parseGpus(printed: string): Gpu[] {
  return printed.split("\n").flatMap((line) => {
    const values = line.split(",").map((value) => value.trim());
    const [index, name, driver, memory, freeMemory, capability] = values.map((value) =>
      /^\[.*\]$|^$/.test(value) ? undefined : value,
    );
    if (values.length !== FIELDS.length || !/^\d+$/.test(index ?? "")) return [];
    return [
      {
        index: Number(index),
        name: name ?? "an NVIDIA GPU",
        driver,
        memory: bytesOf(memory),
        freeMemory: bytesOf(freeMemory),
        capability,
      },
    ];
  });
}

function bytesOf(mebibytes: string | undefined): number | undefined {
  const number = Number(mebibytes);
  return mebibytes === undefined || !Number.isFinite(number) ? undefined : number * MIB;
}

function programs(): readonly string[] {
  if (process.platform === "win32") {
    const { SystemRoot = "C:\\Windows", ProgramFiles = "C:\\Program Files" } = process.env;
    return [
      "nvidia-smi",
      join(SystemRoot, "System32", "nvidia-smi.exe"),
      join(ProgramFiles, "NVIDIA Corporation", "NVSMI", "nvidia-smi.exe"),
    ];
  }
  return process.platform === "linux" ? ["nvidia-smi", "/usr/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"] : [];
}

// Starting a process only to find that its program is missing takes milliseconds.
async function isInstalled(program: string): Promise<boolean> {
  if (process.platform !== "linux") return true;
  const folders = isAbsolute(program) ? [""] : (process.env["PATH"] ?? "").split(delimiter);
  const found = folders.map((folder) =>
    access(join(folder, program), constants.X_OK).then(
      () => true,
      () => false,
    ),
  );
  return (await Promise.all(found)).includes(true);
}

const DRIVER = "/proc/driver/nvidia";

// The kernel module lists GPUs also where nvidia-smi is not installed, as in slim containers.
async function gpusOfDriver(): Promise<Gpu[]> {
  const version = await readFile(join(DRIVER, "version"), "utf8").catch(() => "");
  const driver = /Kernel Module[^\d]*([\d.]+)/.exec(version)?.[1];
  const folders = (await readdir(join(DRIVER, "gpus")).catch(() => [])).sort();
  return Promise.all(
    folders.map(async (folder, index) => {
      const information = await readFile(join(DRIVER, "gpus", folder, "information"), "utf8").catch(() => "");
      return { ...unknown(index), name: /^Model:\s*(.+)$/m.exec(information)?.[1]?.trim() ?? "an NVIDIA GPU", driver };
    }),
  );
}

const BUS = "/sys/bus/pci/devices";
const NVIDIA = "0x10de";

/** PCI class of display and 3D controllers; the same card has a sound device too. */
const DISPLAY = /^0x03/;

async function gpusOnBus(): Promise<Gpu[]> {
  const slots = await readdir(BUS).catch(() => []);
  const read = (slot: string, name: string) => readFile(join(BUS, slot, name), "utf8").catch(() => "");
  const found = await Promise.all(
    slots.map(
      async (slot) => (await read(slot, "vendor")).trim() === NVIDIA && DISPLAY.test(await read(slot, "class")),
    ),
  );
  return slots
    .filter((_, index) => found[index])
    .map((slot, index) => ({ ...unknown(index), name: `an NVIDIA GPU at ${slot}` }));
}

function unknown(index: number): Omit<Gpu, "name"> {
  return { index, driver: undefined, memory: undefined, freeMemory: undefined, capability: undefined };
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}
