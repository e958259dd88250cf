// The Model Context Protocol over stdin and stdout: an agent of this user edits pictures with one warm model.
// https://modelcontextprotocol.io/specification/2025-06-18
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import {
  CallToolRequestSchema,
  ErrorCode,
  ListToolsRequestSchema,
  McpError,
  type ServerNotification,
} from "@modelcontextprotocol/sdk/types.js";
import { processName } from "../../std/temporary-files.js";
import { qeditVersion } from "../../std/version.js";
import { type EditServer, type EditServerOptions, openEditServer } from "../edit-server.js";
import { DEFAULT_LIMITS } from "../limits.js";
import { editTool } from "./edit-tool.js";
import { lineTransport } from "./line-transport.js";
import { modelsTool } from "./models-tool.js";
import { type Planning, planTool } from "./plan-tool.js";
import { failedCall, type Tool } from "./tool.js";

/** What the server is opened with. */
export interface McpOptions extends Pick<EditServerOptions, "base" | "observe"> {
  readonly service: EditServerOptions["service"];
  readonly planning: Omit<Planning, "vram">;
  readonly stdin: Readable;
  readonly stdout: Writable | NodeJS.WritableStream;
  /** Aborted when it has to stop. */
  readonly stop: AbortSignal;
}

/** What the model is told of the server. */
const INSTRUCTIONS =
  "Edits pictures on this machine. Name files by absolute paths. plan_edit says what an edit takes; edit_image makes it and never replaces a file.";

/** The caller is this machine's user, who has no limits on the command line either. */
const LIMITS = {
  ...DEFAULT_LIMITS,
  pictures: Number.POSITIVE_INFINITY,
  pictureMegapixels: Number.POSITIVE_INFINITY,
  prompt: Number.POSITIVE_INFINITY,
  megapixels: Number.POSITIVE_INFINITY,
  steps: Number.POSITIVE_INFINITY,
};

/** Milliseconds that the step under way has when the client is gone. */
const GRACE = 2000;

/** Bytes of one message: several pictures in base64. */
const LARGEST_MESSAGE = 256 * 1024 ** 2;

/** Serves until stdin ends or it is stopped; what runs then is cancelled. */
export async function serveMcp(options: McpOptions): Promise<void> {
  const { stdin, stdout, stop, observe, base, service, planning } = options;
  const lazy = lazyServer(options);
  const tools = [
    editTool(lazy.open),
    modelsTool(base.settings),
    planTool(lazy.open, { ...planning, vram: service.vram }),
  ];
  const server = protocolServer(tools);
  const warn = (text: string) => observe({ kind: "warning", text });
  server.onerror = ({ message }) =>
    observe({ kind: "service", event: { kind: "detail", text: `protocol: ${message}` } });
  const { transport, ended } = lineTransport({ stdin, stdout, most: LARGEST_MESSAGE, warn });
  const stopped = new Promise<void>((resolve) => {
    stop.addEventListener("abort", () => resolve(), { once: true });
    if (stop.aborted) resolve();
  });
  try {
    await server.connect(transport);
    await Promise.race([ended, stopped]);
  } finally {
    await server.close();
    // Else the wait for the next message would keep the process.
    stdin.destroy();
    await lazy.close();
  }
}

// Its engine takes memory: it is opened by the first call that needs it.
function lazyServer({ service, base, observe }: McpOptions): {
  readonly open: () => Promise<EditServer>;
  readonly close: () => Promise<void>;
} {
  let state: string | undefined;
  let opening: Promise<EditServer> | undefined;
  const openAnew = async () => {
    // No job survives this process: its folder holds nothing.
    state ??= await mkdtemp(join(tmpdir(), `qedit-mcp-${processName()}-`));
    const unlimited = { keepResults: Number.POSITIVE_INFINITY, resultsLimit: Number.POSITIVE_INFINITY };
    const server = await openEditServer({ service, base, observe, limits: LIMITS, state, ...unlimited });
    await server.ready();
    return server;
  };
  return {
    open() {
      opening ??= openAnew().catch((error: unknown) => {
        opening = undefined;
        throw error;
      });
      return opening;
    },
    async close() {
      const closing = opening
        // One that could not be opened is not closed.
        ?.catch(() => undefined)
        .then(async (server) => {
          await server?.drain(0);
          await server?.close();
        });
      await Promise.race([closing, delay(GRACE, undefined, { ref: false })]);
      if (state !== undefined) await rm(state, { recursive: true, force: true });
    },
  };
}

function protocolServer(tools: readonly Tool[]): Server {
  const server = new Server(
    { name: "qedit", title: "qedit", version: qeditVersion() },
    { capabilities: { tools: {} }, instructions: INSTRUCTIONS },
  );
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: tools.map(({ definition }) => definition) }));
  server.setRequestHandler(CallToolRequestSchema, async ({ params }, { signal, _meta, sendNotification }) => {
    const tool = tools.find(({ definition }) => definition.name === params.name);
    if (tool === undefined) throw new McpError(ErrorCode.InvalidParams, `There is no tool "${params.name}"`);
    const token = _meta?.progressToken;
    const progress = (share: number, message: string) => {
      if (token === undefined || signal.aborted) return;
      const notification: ServerNotification = {
        method: "notifications/progress",
        params: { progressToken: token, progress: share, total: 100, message },
      };
      // A client that is gone needs no progress.
      void sendNotification(notification).catch(() => {});
    };
    return tool.call({ args: params.arguments ?? {}, signal, progress }).catch(failedCall);
  });
  return server;
}
