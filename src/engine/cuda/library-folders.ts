// Folders of shared libraries: those that the dynamic loader searches, and others where CUDA is often installed.
import { readdir, realpath } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { ownLibraries } from "./cuda-packages.js";

/** A folder, and its origin for messages. */
export interface SearchedFolder {
  readonly folder: string;
  readonly source: string;
}

const MULTIARCH: Readonly<Record<string, string>> = { x64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" };

/** CUDA's own name of a platform, in `targets`. */
const TARGET: Readonly<Record<string, string>> = { x64: "x86_64-linux", arm64: "sbsa-linux" };

/** Folders that the dynamic loader searches besides run paths and its cache, in its order. */
export async function searchedFolders(env: NodeJS.ProcessEnv = process.env): Promise<SearchedFolder[]> {
  const named = (env["LD_LIBRARY_PATH"] ?? "").split(/[:;]/).filter((folder) => folder !== "");
  const triplet = MULTIARCH[process.arch] ?? "";
  const system = ["/lib64", "/usr/lib64", `/lib/${triplet}`, `/usr/lib/${triplet}`, "/lib", "/usr/lib"];
  return [
    ...named.map((folder) => ({ folder, source: "LD_LIBRARY_PATH" })),
    ...system.map((folder) => ({ folder, source: "the system's libraries" })),
  ];
}

/** Folders that may have CUDA's libraries and that the loader does not search: qedit's own, toolkits, Python's nvidia packages, WSL, NixOS. */
export async function hiddenFolders(env: NodeJS.ProcessEnv = process.env): Promise<SearchedFolder[]> {
  const pythons = await pythonFolders(env);
  const packages = await Promise.all(
    pythons.map(async (site) =>
      (await names(join(site, "nvidia"))).map((name) => ({
        folder: join(site, "nvidia", name, "lib"),
        source: "Python's nvidia packages",
      })),
    ),
  );
  return [
    { folder: ownLibraries(), source: "qedit setup" },
    ...packages.flat(),
    ...(await toolkitFolders(env)),
    ...DRIVER_FOLDERS,
  ];
}

/** Folders of the driver's libraries in WSL and NixOS. */
const DRIVER_FOLDERS: readonly SearchedFolder[] = [
  { folder: "/usr/lib/wsl/lib", source: "WSL's driver" },
  { folder: "/run/opengl-driver/lib", source: "NixOS's driver" },
];

async function toolkitFolders(env: NodeJS.ProcessEnv): Promise<SearchedFolder[]> {
  // The newest first: /usr/local/cuda-13.1 before cuda-12.8.
  const local = (await names("/usr/local"))
    .filter((name) => /^cuda(-[\d.]+)?$/.test(name))
    .sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
  const roots = [env["CUDA_HOME"], env["CUDA_PATH"], ...local.map((name) => join("/usr/local", name)), "/opt/cuda"];
  const conda = [env["CONDA_PREFIX"]].flatMap((prefix) =>
    prefix ? [{ folder: join(prefix, "lib"), source: "conda" }] : [],
  );
  const target = join("targets", TARGET[process.arch] ?? "", "lib");
  return [
    ...roots.flatMap((root) =>
      root ? ["lib64", target].map((below) => ({ folder: join(root, below), source: "the CUDA toolkit" })) : [],
    ),
    ...conda,
  ];
}

// Package folders of every Python: active, in a virtual environment of the working folder, on PATH, the user's and the system's.
async function pythonFolders(env: NodeJS.ProcessEnv): Promise<string[]> {
  const home = env["HOME"] || homedir();
  const onPath = await Promise.all(
    (env["PATH"] ?? "")
      .split(delimiter)
      .filter((folder) => folder !== "")
      .map((folder) =>
        realpath(join(folder, "python3")).then(
          (python) => [dirname(folder), dirname(dirname(python))],
          () => [],
        ),
      ),
  );
  const prefixes = [
    env["VIRTUAL_ENV"],
    env["CONDA_PREFIX"],
    join(process.cwd(), ".venv"),
    join(process.cwd(), "venv"),
    ...onPath.flat(),
    join(home, ".local"),
    "/usr/local",
    "/usr",
  ];
  const folders: string[] = [];
  for (const prefix of new Set(prefixes)) {
    if (!prefix) continue;
    for (const name of (await names(join(prefix, "lib"))).filter((each) => /^python3/.test(each))) {
      folders.push(...["site-packages", "dist-packages"].map((below) => join(prefix, "lib", name, below)));
    }
  }
  return folders;
}

// Names in a folder; none when it does not exist or cannot be read.
async function names(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
