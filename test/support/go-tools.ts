// Programs in Go for nightly tests. Go takes minutes to build them, so they are built only where QEDIT_BUILD_TOOLS is set; later runs use them again.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { fetchedFolder, missing, wasFetched } from "./fetched-folder.js";

const run = promisify(execFile);

const TOOLS = {
  grpcurl: "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
  /** Judges of Kubernetes' manifests. */
  kubeconform: "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
  "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
  /** A server of S3 over a folder. */
  versitygw: "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
} as const;
/** Milliseconds for a build. */
const BUILD_WITHIN = 600_000;

/** The folder of a program; a text says why there is none: it is not to be built, no Go, or no module proxy. */
export async function builtTool(
  name: keyof typeof TOOLS,
): Promise<{ readonly bin: string } | { readonly missing: string }> {
  const module = TOOLS[name];
  return builtIn(`${name}-${module.split("@")[1]}`, name, { args: ["install", module] });
}

/** The same of a program of ours: a folder with its source, go.mod and go.sum. */
export async function builtProgram(
  name: string,
  source: string,
): Promise<{ readonly bin: string } | { readonly missing: string }> {
  const hash = createHash("sha256");
  for (const file of readdirSync(source).sort()) hash.update(readFileSync(join(source, file)));
  return builtIn(`${name}-${hash.digest("hex").slice(0, 12)}`, name, {
    args: ["install", "-buildvcs=false", "."],
    cwd: source,
  });
}

async function builtIn(
  place: string,
  name: string,
  { args, cwd }: { readonly args: readonly string[]; readonly cwd?: string },
): Promise<{ readonly bin: string } | { readonly missing: string }> {
  if (!wasFetched(place) && !process.env["QEDIT_BUILD_TOOLS"])
    return { missing: `${name} is built with QEDIT_BUILD_TOOLS=1` };
  try {
    const bin = await fetchedFolder(place, (empty) =>
      run("go", args, { cwd, env: { ...process.env, GOBIN: empty }, timeout: BUILD_WITHIN }),
    );
    return { bin };
  } catch (error) {
    return missing(error);
  }
}
