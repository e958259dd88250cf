import { stagesElsewhere } from "../../edit/remote/remote-servers.js";
import { serveMcp } from "../../server/mcp/mcp-server.js";
import type { ServerEvent } from "../../server/server-event.js";
import type { McpSettings } from "../commands/mcp.js";
import { readTimings } from "../files/timings-file.js";
import { planLines } from "../render/plan-lines.js";
import { styleFor } from "../render/style.js";
import type { Terminal } from "../render/terminal.js";
import { refuseUselessTimeout } from "../settings/remote-options.js";
import type { GivenSetting } from "../settings/settings.js";
import { baseSettings, stopSignal, warmService } from "./serve-edits.js";

/** A call of `mcp`. */
interface McpCall {
  readonly settings: McpSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

/** Milliseconds in which the engine ends by itself once everything is closed; a step that takes longer is left to it. */
const LAST_WAIT = 200;

/** Serves until stdin ends, or SIGTERM or Ctrl-C. */
export async function serveAgents({ settings, given }: McpCall, terminal: Terminal): Promise<void> {
  const { io } = terminal;
  refuseUselessTimeout(stagesElsewhere(settings.remote), given);
  const stop = stopSignal(terminal);
  if (io.stdin.isTTY)
    terminal.emit({ kind: "note", text: "waiting for messages of an agent on stdin; Ctrl-C or Ctrl-D ends it" });
  const plain = styleFor(io.stdout, { env: {}, color: false });
  await serveMcp({
    service: warmService(settings, io.env),
    base: await baseSettings(given, terminal),
    planning: { timings: readTimings, lines: (plan) => planLines(plan, plain), remote: settings.remote },
    observe: (event) => report(event, terminal),
    ...{ stdin: io.stdin, stdout: io.stdout, stop },
  });
  setTimeout(() => process.exit(), LAST_WAIT).unref();
}

function report(event: ServerEvent, { emit }: Terminal): void {
  if (event.kind === "warning") emit({ kind: "warning", text: event.text });
  else if (event.kind === "restart") emit({ kind: "warning", text: `the engine is started again: ${event.reason}` });
  else if (event.kind === "service") emit(event.event);
}
