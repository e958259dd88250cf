// grpcurl for nightly tests. Go takes minutes to build it, so it is built only where QEDIT_BUILD_TOOLS is set; later runs use it again.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const VERSION = "v1.9.4";
/** Milliseconds for the build. */
const BUILD_WITHIN = 600_000;

/** The folder of the program; a text says why there is none: it is not to be built, no Go, or no module proxy. */
export async function builtGrpcurl(): Promise<{ readonly bin: string } | { readonly missing: string }> {
  const bin = join(tmpdir(), `qedit-grpcurl-${VERSION}`);
  if (existsSync(join(bin, "grpcurl"))) return { bin };
  if (!process.env["QEDIT_BUILD_TOOLS"]) return { missing: "grpcurl is built with QEDIT_BUILD_TOOLS=1" };
  try {
    const env = { ...process.env, GOBIN: bin };
    const module = `github.com/fullstorydev/grpcurl/cmd/grpcurl@${VERSION}`;
    await run("go", ["install", module], { env, timeout: BUILD_WITHIN });
    return { bin };
  } catch (error) {
    return { missing: (error as Error).message.split("\n").at(-1)!.slice(0, 200) };
  }
}
