// Why CUDA does not work on this machine, each reason with its remedy: for doctor, setup and the choice of a device.
import { join } from "node:path";
import { param, QeditError } from "../../std/errors.js";
import { loadLibrary } from "../sessions/loading.js";
import { CUDA_PACKAGES } from "./cuda-packages.js";
import { findGpus, type Gpu, type Gpus } from "./gpus.js";
import { inspectLibraries, type LibraryReport, type MissingLibrary } from "./libraries.js";
import { installedRelease, PROVIDER_FILES, providerFolder, type Release } from "./release.js";

/** One thing that keeps CUDA from working. */
export interface Problem {
  readonly text: string;
  /** The command to type, or what to do; parameters are marked, for `spelled`. */
  readonly remedy: string;
}

/** The parts that CUDA needs, and the problems with them. */
export interface CudaReport {
  readonly release: Release;
  /** Folder of the provider; undefined when it is not installed. */
  readonly provider: string | undefined;
  /** undefined on a platform without CUDA, and when the provider is damaged. */
  readonly libraries: LibraryReport | undefined;
  readonly gpus: Gpus;
  /** In the order in which to fix them. */
  readonly problems: readonly Problem[];
}

/** Oldest driver that runs CUDA 13 (its release notes), and least compute capability that the provider has code for (its SASS). */
const OLDEST_DRIVER = 580;
const MIN_CAPABILITY = 7.5;

const USE_CPU = `\`${param("device", "cpu")}\``;
const USE_FIRST_GPU = `\`${param("device", "cuda:0")}\``;

/** The driver's library, which no package but the driver has. */
const DRIVER_LIBRARY = "libcuda.so.1";

/** The problem of a platform for which onnxruntime-node has no CUDA; undefined on others. */
export function platformProblem(
  { hasCuda, platform }: Pick<Release, "hasCuda" | "platform"> = installedRelease(),
): Problem | undefined {
  if (hasCuda) return undefined;
  const remedy = platform.startsWith("win32") ? `Use qedit in WSL 2, where the GPU works, or ${USE_CPU}` : USE_CPU;
  return { text: `onnxruntime-node has no CUDA for ${platform.replace("-", " ")}`, remedy };
}

/** Inspects everything that CUDA needs on GPU `index`, without opening a session. */
export async function inspectCuda(index = 0): Promise<CudaReport> {
  const release = installedRelease();
  const gpus = await findGpus();
  const platform = platformProblem(release);
  if (platform) return { release, provider: undefined, libraries: undefined, gpus, problems: [platform] };
  const provider = await providerFolder(release);
  const { libraries, problem } = await providerLibraries(provider);
  return {
    release,
    provider,
    libraries,
    gpus,
    problems: [...gpuProblems(gpus, index), ...problem, ...libraryProblems(libraries?.missing ?? [], gpus)],
  };
}

/** The problems behind a session's failure: what is missing, else the message of the loader or of ONNX Runtime. */
export async function explainFailure(error: unknown, index = 0): Promise<readonly Problem[]> {
  const { problems, provider } = await inspectCuda(index);
  if (problems.length > 0) return problems;
  const message = error instanceof Error ? error.message : String(error);
  // ONNX Runtime reports the loader's reason in its log only.
  const reason =
    /Failed to load shared library/.test(message) && provider !== undefined
      ? loadLibrary(join(provider, PROVIDER_FILES[0]))
      : undefined;
  const failure = /CUDA failure (\d+)/.exec(message)?.[1] ?? "";
  const remedy =
    REMEDIES[failure] ?? `\`qedit setup --force\` installs the provider again; ${USE_CPU} works everywhere`;
  return [{ text: reason ?? message.replace(/^Cannot (open|run) a trial on \S+: /, ""), remedy }];
}

/** Remedies for errors of the CUDA runtime that the machine's owner can fix, by their numbers in driver_types.h. */
const REMEDIES: Readonly<Record<string, string>> = {
  2: "Close other programs that use the GPU: `nvidia-smi` lists them",
  35: "Update NVIDIA's driver",
  46: "Close other programs that use the GPU: `nvidia-smi` lists them",
  100: "Let this process see the GPU: start a container with `--gpus all`, and look at CUDA_VISIBLE_DEVICES",
  101: `Take a GPU that \`nvidia-smi\` lists: ${USE_FIRST_GPU}`,
  803: "Restart the machine: the driver was updated while it ran",
  999: "Restart the machine, or reload the driver's module nvidia_uvm",
};

async function providerLibraries(
  provider: string | undefined,
): Promise<{ libraries: LibraryReport | undefined; problem: Problem[] }> {
  const absent = { text: "the CUDA provider of ONNX Runtime is not installed", remedy: "`qedit setup`" };
  try {
    return { libraries: await inspectLibraries(provider), problem: provider === undefined ? [absent] : [] };
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    return {
      libraries: undefined,
      problem: [{ text: `the CUDA provider is damaged: ${error.message}`, remedy: "`qedit setup --force`" }],
    };
  }
}

function gpuProblems({ gpus, source, failure }: Gpus, index: number): Problem[] {
  const driver = "Install NVIDIA's driver; in a container, start it with `--gpus all`";
  if (gpus.length === 0) {
    return [
      {
        text: failure ? `nvidia-smi finds no GPU: ${failure}` : "no NVIDIA GPU was found",
        remedy: `${param("device", "cpu")}, or install NVIDIA's driver; in a container, start it with \`--gpus all\``,
      },
    ];
  }
  if (source === "the PCI bus") return [{ text: `${gpus[0]!.name} has no driver`, remedy: driver }];
  const gpu = gpus.find((each) => each.index === index);
  if (!gpu) return [{ text: `there is no GPU ${index}: ${gpus.map(nameOf).join(", ")}`, remedy: USE_FIRST_GPU }];
  const problems: Problem[] = [];
  if (gpu.driver !== undefined && Number.parseInt(gpu.driver, 10) < OLDEST_DRIVER) {
    problems.push({
      text: `driver ${gpu.driver} is too old for CUDA 13: ${OLDEST_DRIVER} or newer is wanted`,
      remedy: "Update NVIDIA's driver",
    });
  }
  if (Number(gpu.capability ?? MIN_CAPABILITY) < MIN_CAPABILITY) {
    problems.push({
      text: `${gpu.name} has compute capability ${gpu.capability}: ${MIN_CAPABILITY} or more is wanted`,
      remedy: USE_CPU,
    });
  }
  return problems;
}

function nameOf({ index, name }: Gpu): string {
  return `${index} is ${name}`;
}

function libraryProblems(missing: readonly MissingLibrary[], { gpus }: Gpus): Problem[] {
  const [driver, others] = [
    missing.filter(({ soname }) => soname === DRIVER_LIBRARY),
    missing.filter(({ soname }) => soname !== DRIVER_LIBRARY),
  ];
  const problems: Problem[] = [];
  if (others.length > 0)
    problems.push({
      text: `${others.map(nameWithUnfit).join(", ")} ${others.length === 1 ? "is" : "are"} not found`,
      remedy: remedyFor(others),
    });
  if (driver.length > 0) {
    // Without a GPU, the driver is a problem of its own already.
    const remedy =
      gpus.length === 0
        ? "It comes with NVIDIA's driver"
        : "Install the driver's library (libcuda1, or nvidia-utils); in a container, start it with `--gpus all`";
    problems.push({ text: `${driver.map(nameWithUnfit).join()} of the driver is not found`, remedy });
  }
  return problems;
}

function nameWithUnfit({ soname, unfit }: MissingLibrary): string {
  return unfit.length === 0 ? soname : `${soname} (${unfit.join("; ")})`;
}

function remedyFor(missing: readonly MissingLibrary[]): string {
  const unknown = missing.filter(({ soname }) => !Object.hasOwn(CUDA_PACKAGES, soname));
  if (unknown.length > 0)
    return `Install ${missing.map(({ soname }) => soname).join(", ")} with your system's packages`;
  return "`qedit setup --libraries`, or install CUDA 13 and cuDNN 9";
}
