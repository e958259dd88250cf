// Clients of `qedit mcp`: the SDK's own, against a real process.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js";
import type { TemporaryFolder } from "../../support/folder.js";

const BIN = fileURLToPath(new URL("../../../bin/qedit.js", import.meta.url));
const ARGS = ["mcp", "--model", "tiny", "--device", "cpu", "--threads", "1", "--no-cache"];

/** The environment of a server that finds nothing of this machine's user, and whose temporary files are in the folder. */
function environment(folder: TemporaryFolder): Record<string, string> {
  return { PATH: process.env["PATH"]!, HOME: folder.path, QEDIT_HOME: folder.at("home"), TMPDIR: folder.path };
}

/** A client with its server, which works in the folder; further flags of the server. */
export async function connected(
  folder: TemporaryFolder,
  flags: readonly string[] = [],
): Promise<{ readonly client: Client; readonly close: () => Promise<void> }> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [BIN, ...ARGS, ...flags],
    cwd: folder.path,
    env: environment(folder),
    stderr: "ignore",
  });
  const client = new Client({ name: "test", version: "1" });
  await client.connect(transport);
  return { client, close: () => client.close() };
}

/** The server alone, for what no client would send. */
export function startedServer(folder: TemporaryFolder, env: Readonly<Record<string, string>> = {}) {
  return spawn(process.execPath, [BIN, ...ARGS, "-v"], {
    cwd: folder.path,
    env: { ...environment(folder), ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** The text of a result. */
export function textOf({ content }: CallToolResult): string {
  return content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n");
}
