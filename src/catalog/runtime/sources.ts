// Where the CUDA provider of a release is published: the official NuGet feed, an npm package that repeats its files, or what the user names.
import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import { promisify } from "node:util";
import * as v from "valibot";
import { param, QeditError } from "../../std/errors.js";
import { fetchJson } from "../download/fetch-json.js";
import { isSecure } from "../download/secure.js";
import type { Package } from "./download-package.js";

/** The official feed (https://learn.microsoft.com/nuget/api/service-index), as onnxruntime-node's own install script uses it. */
const OFFICIAL_FEED = "https://api.nuget.org/v3/index.json";
const NUGET_PACKAGE = "Microsoft.ML.OnnxRuntime.Gpu.Linux";

const FEED_HINT = "Check the network and HTTPS_PROXY; `qedit setup --from FILE` works without a network";

/** npm packages with the provider, by release of ONNX Runtime; of third parties, hence pinned by hash. */
const NPM: Readonly<Record<string, { readonly name: string; readonly version: string; readonly sha512: string }>> = {
  "1.29.0": {
    name: "com.github.asus4.onnxruntime.linux-x64-gpu",
    version: "0.4.9",
    sha512: "FopIhNE/Ng+v2X65wVc9clPCBCvhvA53Hxo2U0Kf5fGdVsC7iCA+mZ0KLWggcQAj7TIZ6pNidR4AC10g74Xo6w==",
  },
};

/** A package with the provider: a download, or a path on this machine. */
export type Source = { readonly label: string } & ({ readonly download: Package } | { readonly path: string });

/** The source that the user chose. */
export interface SourceChoice {
  /** `nuget`, `npm`, a file, a folder or a URL; undefined for the official feed, then npm. */
  readonly from: string | undefined;
  readonly feed: string | undefined;
  /** Expected hash of a URL's file, hexadecimal. */
  readonly sha256: string | undefined;
}

/** A source whose address is looked up on demand, which may need the network. */
export interface Candidate {
  readonly label: string;
  readonly find: (signal: AbortSignal) => Promise<Source>;
}

/** The sources to try, in order. Throws QEDIT_E_USAGE for an invalid choice. */
export async function candidates(version: string, { from, feed, sha256 }: SourceChoice): Promise<Candidate[]> {
  if (sha256 !== undefined && !/^[0-9a-f]{64}$/i.test(sha256))
    throw usage(`Cannot use "${sha256}" for ${param("sha256")}: 64 hexadecimal digits are wanted`);
  if (feed !== undefined && !URL.canParse(feed))
    throw usage(`Cannot use "${feed}" for ${param("feed")}: the URL of a NuGet v3 index is wanted`);
  const digest = sha256 === undefined ? undefined : ({ algorithm: "sha256", hex: sha256 } as const);
  const nuget = {
    label: feed === undefined ? "NuGet" : new URL(feed).host,
    find: (signal: AbortSignal) => nugetSource(version, { feed: feed ?? OFFICIAL_FEED, digest }, signal),
  };
  const npm = npmCandidate(version);
  if (from === undefined) return feed === undefined ? [nuget, ...npm] : [nuget];
  if (from === "nuget") return [nuget];
  if (from === "npm") {
    if (npm.length === 0)
      throw usage(`Cannot take ONNX Runtime ${version} from npm: no package there is known to hold it`);
    return npm;
  }
  if (/^https?:\/\//i.test(from)) {
    if (!URL.canParse(from)) throw usage(`Cannot take the provider from ${from}: it is no URL`);
    const url = new URL(from);
    const name = (url.pathname.split("/").at(-1) || "provider").replace(/[^\w.@+-]/g, "_");
    if (digest === undefined) throw unverified(from, "nothing says what the file must be");
    return [{ label: url.host, find: async () => ({ label: url.host, download: { url: from, name, digest } }) }];
  }
  const path = resolve(from);
  if (!(await stat(path).catch(() => undefined))) {
    throw new QeditError("QEDIT_E_USAGE", `Cannot take the provider from ${from}: it does not exist`, {
      hint: "`qedit setup --from` takes a file, a folder, a URL, `nuget` or `npm`",
    });
  }
  return [{ label: path, find: async () => ({ label: path, path }) }];
}

const address = v.pipe(v.string(), v.url());

// The documents of a NuGet v3 feed, as far as they are read: https://learn.microsoft.com/nuget/api/overview
const serviceIndex = v.object({
  resources: v.optional(v.array(optionally(v.object({ "@id": address, "@type": v.string() }))), []),
});
const registrationLeaf = v.object({ catalogEntry: optionally(address) });
const packageDetails = v.object({
  packageHash: v.optional(v.pipe(v.string(), v.base64())),
  packageHashAlgorithm: v.optional(v.string()),
});

// Undefined for what is not of the form.
function optionally<T>(schema: v.GenericSchema<unknown, T>) {
  return v.fallback(v.optional(schema), undefined);
}

interface Feed {
  readonly feed: string;
  /** The hash that the user gave. */
  readonly digest: Package["digest"];
}

async function nugetSource(version: string, { feed, digest: given }: Feed, signal: AbortSignal): Promise<Source> {
  const id = NUGET_PACKAGE.toLowerCase();
  const { resources } = await fetchJson(feed, serviceIndex, { signal, hint: FEED_HINT });
  const resource = (type: string) => resources.find((each) => each?.["@type"].split("/")[0] === type)?.["@id"];
  const base = resource("PackageBaseAddress");
  if (base === undefined)
    throw new QeditError("QEDIT_E_NETWORK", `Cannot use the feed ${feed}: it offers no packages to download`, {
      hint: "`qedit setup --feed` takes the index of a NuGet v3 feed",
    });
  const name = `${id}.${version}.nupkg`;
  const catalogue = isSecure(new URL(feed)) ? resource("RegistrationsBaseUrl") : undefined;
  const digest = given ?? (await nugetDigest(catalogue, `${id}/${version}.json`, signal));
  if (digest === undefined) throw unverified(feed, "this feed has no hash of it that can be trusted");
  return {
    label: `${NUGET_PACKAGE} ${version} of ${new URL(feed).host}`,
    download: {
      url: new URL(`${id}/${version}/${name}`, withSlash(base)).href,
      name,
      digest,
    },
  };
}

// The feed's catalogue has the hash of each package; mirrors often lack the catalogue.
async function nugetDigest(base: string | undefined, leaf: string, signal: AbortSignal): Promise<Package["digest"]> {
  if (base === undefined) return undefined;
  const registration = new URL(leaf, withSlash(base)).href;
  const { catalogEntry } = await fetchJson(registration, registrationLeaf, { signal, hint: FEED_HINT });
  if (catalogEntry === undefined) return undefined;
  const { packageHash, packageHashAlgorithm } = await fetchJson(catalogEntry, packageDetails, {
    signal,
    hint: FEED_HINT,
  });
  const hex = packageHash === undefined ? "" : Buffer.from(packageHash, "base64").toString("hex");
  return packageHashAlgorithm === "SHA512" && hex.length === 128 ? { algorithm: "sha512", hex } : undefined;
}

function npmCandidate(version: string): Candidate[] {
  const known = NPM[version];
  if (!known) return [];
  const { name, version: packageVersion, sha512 } = known;
  const label = `${name}@${packageVersion} of npm, a third party's package`;
  const file = `${name}-${packageVersion}.tgz`;
  const digest = { algorithm: "sha512", hex: Buffer.from(sha512, "base64").toString("hex") } as const;
  return [
    {
      label,
      find: async () => ({
        label,
        download: { url: new URL(`${name}/-/${file}`, await npmRegistry()).href, name: file, digest },
      }),
    },
  ];
}

// The registry that npm is configured for; npm and npx pass it to child processes.
async function npmRegistry(): Promise<string> {
  const inherited = process.env["npm_config_registry"];
  if (inherited) return withSlash(inherited);
  const windows = process.platform === "win32";
  try {
    const { stdout } = await promisify(execFile)(windows ? "npm.cmd" : "npm", ["config", "get", "registry"], {
      shell: windows,
    });
    return withSlash(new URL(stdout.trim()).href);
  } catch (cause) {
    throw new QeditError("QEDIT_E_NETWORK", "Cannot ask npm which registry it uses", {
      hint: "Set npm_config_registry to its URL, or name the provider: qedit setup --from FILE",
      cause,
    });
  }
}

function withSlash(url: string): string {
  return url.endsWith("/") ? url : `${url}/`;
}

// A native library runs with the user's rights: it is never taken without a hash.
function unverified(from: string, why: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot take the provider from ${from} unverified: ${why}`, {
    hint: `Add the hash that its publisher states: ${param("sha256", "HEX")}`,
    parameter: "sha256",
  });
}

function usage(message: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", message, { hint: "qedit setup --help" });
}
