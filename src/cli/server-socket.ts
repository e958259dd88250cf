// Where the commands of a user find a server of the same user on this machine: its socket, and the store of Kafka.
import { join } from "node:path";
import { folderFor } from "../std/own-folders.js";
import type { Io } from "./io.js";

/** Its path: in the runtime folder, else in the state folder. */
export function serverSocket(env: Io["env"]): string {
  return join(env["XDG_RUNTIME_DIR"] || folderFor("state"), "qedit.sock");
}

/** The store that Kafka's clients and workers on this machine share, unless they are given another. */
export function storeFolder(): string {
  return join(folderFor("data"), "store");
}
