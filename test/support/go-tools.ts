// Programs in Go for nightly tests. Go takes minutes to build them, so they are built only where QEDIT_BUILD_TOOLS is set; later runs use them again.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const TOOLS = {
  grpcurl: "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
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
  const bin = join(tmpdir(), `qedit-${name}-${module.split("@")[1]}`);
  if (existsSync(join(bin, name))) return { bin };
  if (!process.env["QEDIT_BUILD_TOOLS"]) return { missing: `${name} is built with QEDIT_BUILD_TOOLS=1` };
  try {
    await run("go", ["install", module], { env: { ...process.env, GOBIN: bin }, timeout: BUILD_WITHIN });
    return { bin };
  } catch (error) {
    return { missing: (error as Error).message.split("\n").at(-1)!.slice(0, 200) };
  }
}
