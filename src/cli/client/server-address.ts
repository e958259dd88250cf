// The address of a server as a user writes it: http://HOST:PORT, https://…, unix:/path/to/socket, or none.
import { resolve } from "node:path";
import { param, QeditError } from "../../std/errors.js";

/** Where a server is reached. */
export interface ServerAddress {
  /** For messages. */
  readonly text: string;
  /** Path of its socket; undefined: it is reached over a network. */
  readonly socket: string | undefined;
  /** The URL that paths are added to, without a slash at its end. */
  readonly base: string;
  /** Whether it is told names of models even over a socket: the files of its stages are on other machines. */
  readonly isByName?: boolean;
}

/** The word for no server. */
export const NO_SERVER = "none";

/** The address of a socket. */
export function socketAddress(path: string): ServerAddress {
  return { text: `unix:${path}`, socket: path, base: "http://localhost" };
}

/** Reads an address. Throws QEDIT_E_USAGE. */
export function parseServer(written: string): ServerAddress {
  if (/^unix:./.test(written)) return socketAddress(resolve(written.slice("unix:".length).replace(/^\/\/(?=\/)/, "")));
  const url = URL.canParse(written) ? new URL(written) : undefined;
  const isPlain =
    url !== undefined && url.username === "" && url.password === "" && url.search === "" && url.hash === "";
  if (isPlain && (url.protocol === "http:" || url.protocol === "https:") && url.hostname !== "") {
    const base = url.href.replace(/\/+$/, "");
    return { text: base, socket: undefined, base };
  }
  const hasKey = url !== undefined && (url.username !== "" || url.password !== "");
  // A key in it must not be shown.
  const shown = hasKey ? "this address" : `"${written}"`;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${shown} for ${param("server")}: http://HOST:PORT, https://HOST:PORT, unix:/path/to/socket or none is wanted`,
    {
      hint: hasKey ? "Set the key in QEDIT_API_KEY" : `Write, for example, ${param("server", "http://127.0.0.1:8000")}`,
      parameter: "server",
    },
  );
}
