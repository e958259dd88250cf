// Which server makes the edit of a call: the one that is named, else the one that answers on this user's socket, else none. Loads nothing of the
// client unless there is one to ask.
import { lstatSync } from "node:fs";
import type { UnresolvedSettings } from "../../edit/resolve/resolve-edit.js";
import { resolveSettings, type Unresolved } from "../../edit/resolve/resolve-settings.js";
import { refuseEmptyPrompt } from "../../stages/encode-prompt.js";
import { param, QeditError } from "../../std/errors.js";
import { secretOf } from "../../std/secret.js";
import { qeditVersion } from "../../std/version.js";
import type { Terminal } from "../render/terminal.js";
import { serverSocket } from "../server-socket.js";
import type { GivenSetting } from "../settings/settings.js";
import { NO_SERVER, parseServer, type ServerAddress, socketAddress } from "./server-address.js";
import type { StatusAnswer } from "./server-answers.js";
import type { ServerClient } from "./server-client.js";

/** A server that answers, and what it said of itself. */
export interface FoundServer {
  readonly client: ServerClient;
  readonly status: StatusAnswer;
  /** Whether it was named, by a flag, a variable or a file; else its socket was found. */
  readonly isNamed: boolean;
}

/** What of a call decides about the server. */
export interface ServerCall {
  readonly settings: { readonly server: string | undefined };
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Options whose meaning lies in this process: a server has its own. */
const OWN_OPTIONS = ["keep", "device", "threads", "vram", "memory", "noCache", "cacheLimit", "remote", "remoteTimeout"];
/** Milliseconds for the answer of a server that was not named. */
const PATIENCE = 3_000;

/**
 * The server for the edits of a call; undefined: they are made in this process. Throws QEDIT_E_USAGE for an option that a named server would ignore,
 * or a named server of another version, and QEDIT_E_NETWORK for one that is not reached.
 */
export async function serverFor(call: ServerCall, terminal: Terminal): Promise<FoundServer | undefined> {
  const { server: named } = call.settings;
  if (named === NO_SERVER) return undefined;
  if (named === undefined) return foundServer(call, terminal);
  const address = parseServer(named);
  refuseOwnOptions(call, address);
  const client = await clientOf(address, terminal);
  const version = await client.version();
  const own = qeditVersion();
  if (version !== own)
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use the server at ${address.text}: it is qedit ${version}, this is ${own}`,
      { hint: `Start it again with this version, or edit here: ${param("server", NO_SERVER)}` },
    );
  return found(client, await client.status(), { isNamed: true });
}

/** The settings of an edit for a server, resolved here. Throws QEDIT_E_USAGE as resolveEdit does. */
export async function resolvedHere<Settings extends UnresolvedSettings>(
  unresolved: Unresolved<Settings>,
): Promise<Settings> {
  refuseEmptyPrompt(unresolved.settings);
  return resolveSettings(unresolved);
}

/** Whether edits are sent to a server: to a named one always, which says itself what it refuses; to a found one within its limits. */
export async function canTake(
  { client, status, isNamed }: FoundServer,
  edits: readonly { readonly images: readonly string[]; readonly settings: UnresolvedSettings }[],
  terminal: Terminal,
): Promise<boolean> {
  if (isNamed) return true;
  const { aboveLimits } = await import("./server-limits.js");
  for (const { images, settings } of edits) {
    const reason = await aboveLimits(images, settings, status);
    if (reason === undefined) continue;
    editHere(client.address, reason, terminal);
    return false;
  }
  return true;
}

/** The server that is named, else the one of the socket; for commands about the server itself. Throws QEDIT_E_USAGE, QEDIT_E_NETWORK. */
export async function serverToControl(named: string | undefined, terminal: Terminal): Promise<ServerClient> {
  if (named === NO_SERVER)
    throw new QeditError("QEDIT_E_USAGE", `Cannot ask a server: ${param("server", NO_SERVER)} names none`, {
      hint: `Leave it out for the server on this user's socket, or name one: ${param("server", "http://127.0.0.1:8000")}`,
    });
  return clientOf(named === undefined ? socketAddress(serverSocket(terminal.io.env)) : parseServer(named), terminal);
}

async function foundServer({ given }: ServerCall, terminal: Terminal): Promise<FoundServer | undefined> {
  const path = serverSocket(terminal.io.env);
  if (!isOwnSocket(path)) return undefined;
  const address = socketAddress(path);
  const own = ownOptions(given)[0];
  if (own !== undefined) return editHere(address, `${own.name} is for this process`, terminal);
  const client = await clientOf(address, terminal);
  try {
    const version = await client.version(PATIENCE);
    if (version !== qeditVersion()) return editHere(address, `it is qedit ${version}`, terminal);
    const status = await client.status(PATIENCE);
    if (status.phase === "draining") return editHere(address, "it is stopping", terminal);
    return found(client, status, { isNamed: false });
  } catch (error) {
    if (!(error instanceof QeditError)) throw error;
    return editHere(address, error.marked.message, terminal);
  }
}

function found(client: ServerClient, status: StatusAnswer, { isNamed }: Pick<FoundServer, "isNamed">): FoundServer {
  const address = { ...client.address, isByName: status.elsewhere.length > 0 };
  return { client: { ...client, address }, status, isNamed };
}

function editHere({ text }: ServerAddress, reason: string, { emit }: Terminal): undefined {
  emit({ kind: "detail", text: `edited here, not by the server at ${text}: ${reason}` });
}

async function clientOf(address: ServerAddress, { io }: Terminal): Promise<ServerClient> {
  const { serverClient } = await import("./server-client.js");
  // A socket is this user's own: it takes no key.
  const isRemote = address.socket === undefined;
  return serverClient(address, isRemote ? secretOf(io.env["QEDIT_API_KEY"], "QEDIT_API_KEY") : undefined);
}

// A socket of another user would get this user's pictures.
function isOwnSocket(path: string): boolean {
  try {
    const found = lstatSync(path);
    return found.isSocket() && (process.getuid === undefined || found.uid === process.getuid());
  } catch {
    return false;
  }
}

/** Those of the given options that are for this process. */
export function ownOptions(given: ReadonlyMap<string, GivenSetting>): readonly GivenSetting[] {
  return OWN_OPTIONS.flatMap((name) => {
    const found = given.get(name);
    return found?.isOfCall ? [found] : [];
  });
}

function refuseOwnOptions({ given }: ServerCall, { text }: ServerAddress): void {
  const [own] = ownOptions(given);
  if (own === undefined) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${own.name} with the server at ${text}: it would have no effect there`,
    { hint: `Leave it out, or edit here: ${param("server", NO_SERVER)}` },
  );
}
