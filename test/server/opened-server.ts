// A server of the tiny model in this process, without doors.
import { baseSettings } from "../../src/cli/actions/serve-edits.js";
import type { Terminal } from "../../src/cli/render/terminal.js";
import { type EditServer, openEditServer } from "../../src/server/edit-server.js";
import { DEFAULT_LIMITS, type ServerLimits } from "../../src/server/limits.js";
import type { TemporaryFolder } from "../support/folder.js";

/** Opens it; whoever did closes it. */
export async function openedServer(folder: TemporaryFolder, limits: Partial<ServerLimits> = {}): Promise<EditServer> {
  const terminal = { io: { cwd: folder.path, env: { QEDIT_MODEL: "tiny" } } } as unknown as Terminal;
  const server = await openEditServer({
    ...{ state: folder.at("state"), keepResults: 60_000, resultsLimit: 1024 ** 3, observe: () => {} },
    limits: { ...DEFAULT_LIMITS, ...limits },
    service: { device: "cpu", threads: 1 },
    base: await baseSettings(new Map(), terminal),
  });
  await server.ready();
  return server;
}
