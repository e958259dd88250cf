// Builds and runs deploy/Dockerfile without an engine of containers: each stage is an overlay over this machine's root, which stands for the base image. Needs root.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, posix } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "../docs/pages.js";

const run = promisify(execFile);

/** Milliseconds for one RUN: npm fetches 250 packages. */
const RUN_WITHIN = 600_000;
/** The text of FROM: its base and its name. */
const FROM = /^(\S+) AS (\S+)$/;
/** Of a RUN's output. */
const MOST_OUTPUT = 64 * 1024 ** 2;

/** A built stage. */
export interface Image {
  /** Folder that lies over this machine's root; undefined: nothing does. */
  readonly layer: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly user: string;
  readonly labels: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  /** The command of HEALTHCHECK. */
  readonly healthcheck: readonly string[];
}

/** A container that runs. */
export interface Container {
  readonly child: ChildProcess;
  /** What it wrote to stderr so far. */
  readonly log: () => string;
  /** Runs a program in it, as its user; gives stdout. */
  readonly exec: (command: readonly string[]) => Promise<string>;
  /** Process 1 of the container, as this machine counts processes. */
  readonly pid: () => number;
  /** Ends all of its processes at once. */
  readonly kill: () => void;
}

/** An instruction of a Dockerfile. */
interface Instruction {
  readonly name: string;
  readonly text: string;
}

/** Why containers cannot be made here; undefined: they can. */
export async function containersMissing(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "needs root, for overlays and namespaces";
  const folder = mkdtempSync(join(tmpdir(), "qedit-overlay-"));
  try {
    await inRoot({ layer: join(folder, "upper"), command: ["true"], user: "1000:1000" });
    return undefined;
  } catch (error) {
    return String((error as { stderr?: string }).stderr ?? error)
      .trim()
      .slice(0, 200);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The instructions of the Dockerfile, in order. */
function readDockerfile(): readonly Instruction[] {
  const text = readFileSync(join(ROOT, "deploy/Dockerfile"), "utf8");
  const lines = text
    .replace(/^#.*\n/gm, "")
    .replaceAll("\\\n", " ")
    .split("\n")
    .filter((line) => line.trim() !== "");
  return lines.map((line) => {
    const [, name, rest] = /^([A-Z]+)\s+(.*)$/.exec(line)!;
    return { name: name!, text: rest!.trim() };
  });
}

/** The files of the repository that .dockerignore leaves in the context. */
function contextFiles(): readonly string[] {
  const kept = readFileSync(join(ROOT, ".dockerignore"), "utf8")
    .split("\n")
    .flatMap((line) => (line.startsWith("!") ? [line.slice(1)] : []));
  return kept.flatMap((pattern) => {
    const folder = dirname(pattern);
    const name = new RegExp(`^${basename(pattern).replaceAll(".", "\\.").replaceAll("*", ".*")}$`);
    return readdirSync(join(ROOT, folder))
      .filter((each) => name.test(each))
      .map((each) => posix.join(folder, each));
  });
}

/** Builds the stages that a target needs, those that need not wait for each other at the same time. Throws what a RUN said when it failed. */
export async function buildImage(target: string, folder: string): Promise<Image> {
  const context = join(folder, "context");
  for (const path of contextFiles()) cpSync(join(ROOT, path), join(context, path), { recursive: true });
  const stages = new Map<string, Promise<Image>>();
  for (const instructions of stagesOf(target)) {
    const [, , name] = FROM.exec(instructions[0]!.text)!;
    stages.set(name!, builtStage(instructions, { context, stages, layer: join(folder, "stages", name!) }));
  }
  await Promise.all(stages.values());
  return stages.get(target)!;
}

async function builtStage(
  [from, ...instructions]: readonly Instruction[],
  { context, stages, layer }: { readonly layer: string } & Pick<Applied, "context" | "stages">,
): Promise<Image> {
  const [, base] = FROM.exec(from!.text)!;
  const below = (await stages.get(base!)) ?? EMPTY;
  mkdirSync(layer, { recursive: true });
  if (below.layer !== undefined) await linked(below.layer, layer);
  let image: Image = { ...below, layer };
  for (const { name: instruction, text } of instructions)
    image = await applied(image, { instruction, text, context, stages });
  return image;
}

/** Starts a container with a read-only root, its own processes and network, a writable /tmp, and `data` as /data. */
export async function startContainer(
  image: Image,
  options: { readonly args?: readonly string[]; readonly env?: Record<string, string>; readonly data: string },
): Promise<Container> {
  // Two overlays cannot write to one folder.
  const layer = mkdtempSync(`${image.layer}-container-`);
  await linked(image.layer!, layer);
  const env = { ...image.env, ...options.env };
  const script = [
    "ip link set lo up",
    ...mounts(layer),
    'mount -o remount,ro "$root"',
    `mount --bind ${options.data} "$root/data"`,
    'mount -t tmpfs tmpfs "$root/tmp"',
    `cd "$root" && exec chroot --userspec=${image.user} . ${shell(["env", "-i", "-C", image.workdir, ...pairs(env)])} "$@"`,
  ].join("\n");
  const command = [...image.entrypoint, ...(options.args ?? image.command)];
  const child = spawn(
    "unshare",
    ["--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "-euc", script, "-", ...command],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  const written: Buffer[] = [];
  child.stderr!.on("data", (bytes: Buffer) => written.push(bytes));
  const pid = () => Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim());
  return {
    child,
    pid,
    // Its process 1 took another user, which undoes --kill-child.
    kill: () => {
      if (child.exitCode === null && child.signalCode === null) process.kill(pid(), "SIGKILL");
    },
    log: () => Buffer.concat(written).toString(),
    async exec(program) {
      const [uid, gid] = image.user.split(":");
      const user = ["--root", "--setuid", uid!, "--setgid", gid!];
      const { stdout } = await run("nsenter", [
        "--target",
        String(pid()),
        "--mount",
        "--net",
        "--pid",
        ...user,
        "env",
        "-i",
        "-C",
        image.workdir,
        ...pairs(env),
        ...program,
      ]);
      return stdout;
    },
  };
}

/** Waits until a container has ended; gives its exit code. */
export async function endOfContainer({ child }: Container): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode;
}

/** Bytes of the files that a stage has by itself. */
export function bytesOf(folder: string): number {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

const EMPTY: Image = {
  ...{ layer: undefined, env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }, workdir: "/" },
  ...{ user: "0:0", labels: "", entrypoint: [], command: [], healthcheck: [] },
};

interface Applied extends Readonly<Record<"instruction" | "text" | "context", string>> {
  readonly stages: ReadonlyMap<string, Promise<Image>>;
}

async function applied(image: Image, { instruction, text, context, stages }: Applied): Promise<Image> {
  const top = image.layer!;
  const list = () => JSON.parse(text) as string[];
  switch (instruction) {
    case "WORKDIR":
      mkdirSync(join(top, text), { recursive: true });
      return { ...image, workdir: text };
    case "USER":
      return { ...image, user: text };
    case "LABEL":
      return { ...image, labels: text };
    case "ENV": {
      const set = [...text.matchAll(/(\w+)=(\S+)/g)].map(([, key, value]) => [key, value] as const);
      return { ...image, env: { ...image.env, ...Object.fromEntries(set) } };
    }
    case "COPY":
      await copy(text, { image, context, stages });
      return image;
    case "RUN": {
      const command = ["bash", "-o", "pipefail", "-ec", text];
      // How this machine reaches registries; an engine would be told as well.
      const network = Object.entries(process.env).filter(([name]) =>
        /^(https?_proxy|no_proxy|node_extra_ca_certs)$/i.test(name),
      );
      await inRoot({
        ...image,
        env: { ...image.env, ...(Object.fromEntries(network) as object) },
        layer: top,
        command,
      });
      return image;
    }
    case "ENTRYPOINT":
      return { ...image, entrypoint: list() };
    case "CMD":
      return { ...image, command: list() };
    case "HEALTHCHECK":
      return { ...image, healthcheck: JSON.parse(/CMD (.*)$/.exec(text)![1]!) as string[] };
    case "ARG":
    case "EXPOSE":
    case "SHELL":
      return image;
    default:
      throw new Error(`no test knows ${instruction}`);
  }
}

async function copy(
  text: string,
  { image, context, stages }: Pick<Applied, "context" | "stages"> & { image: Image },
): Promise<void> {
  const [, from, rest] = /^(?:--from=(\S+) )?(.*)$/.exec(text)!;
  const [target, ...sources] = rest!.split(/\s+/).reverse() as [string, ...string[]];
  const origin = from === undefined ? context : (await stages.get(from)!).layer!;
  const into = join(image.layer!, posix.resolve(image.workdir, target));
  for (const source of sources) {
    const path = join(origin, source);
    // The content of a folder is copied, not the folder.
    const isFolder = statSync(path).isDirectory();
    cpSync(path, isFolder || !/(^|\/)\.?\/?$/.test(target) ? into : join(into, basename(path)), {
      recursive: true,
      verbatimSymlinks: true,
    });
  }
}

// Those stages alone that a target is made of.
function stagesOf(target: string): readonly (readonly Instruction[])[] {
  const stages: Instruction[][] = [];
  for (const instruction of readDockerfile()) {
    if (instruction.name === "FROM") stages.push([]);
    stages.at(-1)?.push(instruction);
  }
  const wanted = new Set([target]);
  const kept: Instruction[][] = [];
  for (const stage of stages.reverse()) {
    const [, base, name] = FROM.exec(stage[0]!.text)!;
    if (!wanted.has(name!)) continue;
    wanted.add(base!);
    for (const { text } of stage) wanted.add(/^--from=(\S+)/.exec(text)?.[1] ?? target);
    kept.unshift(stage);
  }
  return kept;
}

interface InRoot {
  readonly layer: string;
  readonly command: readonly string[];
  readonly user: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly workdir?: string;
}

async function inRoot({ layer, command, user, env = {}, workdir = "/" }: InRoot): Promise<void> {
  mkdirSync(layer, { recursive: true });
  const script = [
    ...mounts(layer),
    `cd "$root" && exec chroot --userspec=${user} . ${shell(["env", "-i", "-C", workdir, ...pairs(env)])} "$@"`,
  ].join("\n");
  const options = { timeout: RUN_WITHIN, maxBuffer: MOST_OUTPUT };
  await run("unshare", ["--mount", "bash", "-euc", script, "-", ...command], options);
}

// The overlay at $root, with the system's own folders.
function mounts(layer: string): string[] {
  const work = mkdtempSync(`${layer}-work-`);
  return [
    "mount --make-rprivate /",
    "root=$(mktemp -d)",
    `mount -t overlay overlay -o lowerdir=/,upperdir=${layer},workdir=${work} "$root"`,
    'mount -t proc proc "$root/proc"',
    'mount --rbind /dev "$root/dev"',
  ];
}

// Layers below each other cannot lie on one file system, so a stage begins with all files of the one below it.
async function linked(from: string, to: string): Promise<void> {
  mkdirSync(to, { recursive: true });
  await run("cp", ["--archive", "--link", `${from}/.`, to]);
}

function pairs(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).map(([key, value]) => `${key}=${value}`);
}

function shell(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
}
