// npm run pack:check -- [FOLDER]: what npm would publish. Its files, its size, no script that runs at installation, and a notice of every package inside.
// The package is left in the folder, if one is named.
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ReadEntry, t } from "tar";

const MB = 1e6;
/** ONNX Runtime for five platforms is nine tenths of it. */
const MOST_PACKED = 135 * MB;
const MOST_UNPACKED = 400 * MB;

/** What may be in the package, bundled packages aside. */
const ALLOWED =
  /^(package\.json|README\.md|LICENSE|THIRD_PARTY_NOTICES|CHANGELOG\.md|models\.json|bin\/qedit\.js|dist\/.*|fixtures\/tiny-model\/[\w-]+\.safetensors)$/;
const WANTED = [
  ...[
    "LICENSE",
    "THIRD_PARTY_NOTICES",
    "README.md",
    "bin/qedit.js",
    "dist/bundle/main.js",
    "dist/engine/sessions/worker.js",
    "models.json",
  ],
  ...[
    "dist/text/data/qwen2.5-merges.bin.gz",
    "dist/server/http/page/index.html",
    "fixtures/tiny-model/tiny_vae.safetensors",
  ],
];
/** Never in dist. */
const STRAY = /(?<!\.d)\.ts$|\.(map|tsbuildinfo|tgz|log)$|(^|\/)(\.env|\.npmrc|test)(\/|$)/;
const AT_INSTALLATION = ["preinstall", "install", "postinstall"];

interface Packed {
  readonly sizes: ReadonlyMap<string, number>;
  /** The package.json files. */
  readonly manifests: ReadonlyMap<string, Manifest>;
}

interface Manifest {
  readonly name?: string;
  readonly version?: string;
  readonly license?: string;
  readonly scripts?: Readonly<Record<string, string>>;
}

const [kept] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "qedit-pack-"));
try {
  execFileSync("npm", ["pack", "--silent", "--pack-destination", folder], { stdio: ["ignore", "ignore", "inherit"] });
  const [name] = readdirSync(folder) as [string];
  const archive = join(folder, name);
  if (kept !== undefined) copyFileSync(archive, join(kept, name));
  const packed = await read(archive);
  const problems = problemsOf(packed, statSync(archive).size);
  for (const problem of problems) console.error(`error: ${problem}`);
  const unpacked = sum(packed);
  console.log(
    `${packed.sizes.size} files, ${megabytes(statSync(archive).size)} packed, ${megabytes(unpacked)} unpacked`,
  );
  if (problems.length > 0) process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function read(file: string): Promise<Packed> {
  const sizes = new Map<string, number>();
  const manifests = new Map<string, Manifest>();
  const pending: Promise<void>[] = [];
  const onReadEntry = (entry: ReadEntry): void => {
    const path = entry.path.replace(/^package\//, "");
    sizes.set(path, entry.size);
    if (/^(.*\/node_modules\/|node_modules\/)?(@[^/]+\/)?[^/]*\/?package\.json$/.test(path))
      pending.push(entry.concat().then((bytes) => void manifests.set(path, JSON.parse(bytes.toString()) as Manifest)));
    else entry.resume();
  };
  await t({ file, onReadEntry });
  await Promise.all(pending);
  return { sizes, manifests };
}

function problemsOf(packed: Packed, bytes: number): readonly string[] {
  const { sizes, manifests } = packed;
  const own = [...sizes.keys()].filter((path) => !path.startsWith("node_modules/"));
  const notices = readFileSync("THIRD_PARTY_NOTICES", "utf8");
  const bundled = [...manifests].filter(([path]) => path.startsWith("node_modules/"));
  return [
    ...own.filter((path) => !ALLOWED.test(path)).map((path) => `${path} does not belong into the package`),
    ...own.filter((path) => STRAY.test(path)).map((path) => `${path} is of use to developers alone`),
    ...WANTED.filter((path) => !sizes.has(path)).map((path) => `${path} is missing`),
    ...[...manifests].flatMap(([path, { scripts = {} }]) =>
      AT_INSTALLATION.flatMap((name) =>
        scripts[name] === undefined ? [] : [`${path} runs a script when it is installed: ${scripts[name]}`],
      ),
    ),
    ...bundled.flatMap(([, { name, version, license }]) =>
      name === undefined || version === undefined || notices.includes(`  ${name} ${version}: ${license}\n`)
        ? []
        : [`THIRD_PARTY_NOTICES lacks "${name} ${version}: ${license}"`],
    ),
    ...(bytes > MOST_PACKED
      ? [`the package has ${megabytes(bytes)}, at most ${megabytes(MOST_PACKED)} are wanted`]
      : []),
    ...(sum(packed) > MOST_UNPACKED
      ? [`unpacked it has ${megabytes(sum(packed))}, at most ${megabytes(MOST_UNPACKED)} are wanted`]
      : []),
  ];
}

function sum({ sizes }: Packed): number {
  return [...sizes.values()].reduce((all, size) => all + size, 0);
}

function megabytes(bytes: number): string {
  return `${(bytes / MB).toFixed(1)} MB`;
}
