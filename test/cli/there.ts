// Calls of the command line that a server makes, and what the server says of its jobs.
import { dirname } from "node:path";
import { expect } from "vitest";
import type { TestServer } from "../support/server.js";
import { type Ended, qedit } from "./qedit.js";

/** Options of small edits. */
export const SMALL = ["--model", "tiny", "--megapixels", "0.02", "--steps", "2"];

/** A call that finds the server's socket. */
export function there(
  args: readonly string[],
  { cwd, server, env = {} }: { cwd: string; server: TestServer; env?: Readonly<Record<string, string>> },
): Promise<Ended> {
  return qedit(args, { cwd, env: { XDG_RUNTIME_DIR: dirname(server.socket), ...env } });
}

/** A call in its own process. */
export function here(args: readonly string[], cwd: string): Promise<Ended> {
  return qedit([...args, "--device", "cpu", "--threads", "1", "--no-cache"], { cwd });
}

/** The jobs of a server, the newest first. */
export async function jobsOf({ url }: TestServer): Promise<readonly { readonly id: string; readonly state: string }[]> {
  const response = await fetch(`${url}/v1/jobs`);
  expect(response.status).toBe(200);
  return ((await response.json()) as { jobs: { id: string; state: string }[] }).jobs;
}
