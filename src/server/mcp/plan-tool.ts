// The tool plan_edit: what an edit would take, without computing it.
import type { EditPlan } from "../../edit/plan/edit-plan.js";
import { planEdit } from "../../edit/plan/plan-edit.js";
import { planMachine } from "../../edit/plan/plan-machine.js";
import type { SessionTiming } from "../../edit/plan/timings.js";
import type { RemoteServers } from "../../edit/remote/remote-servers.js";
import { readRequest } from "../../edit/request/edit-request.js";
import { refuseFilesElsewhere } from "../../edit/resolve/files-elsewhere.js";
import { resolveSettings } from "../../edit/resolve/resolve-settings.js";
import { readSize } from "../../image/io/read.js";
import { readPictures } from "../../stages/pictures.js";
import { escapeControls } from "../../std/control-characters.js";
import { spelled } from "../../std/errors.js";
import type { Emit } from "../../std/events.js";
import { loadTokenizer } from "../../text/tokenizer.js";
import type { EditServer } from "../edit-server.js";
import { editArguments, readArguments } from "./edit-arguments.js";
import { asArgument, type Tool } from "./tool.js";

/** What plans need besides the server. */
export interface Planning {
  /** Bytes of the device that networks may take; undefined: what is free. */
  readonly vram: number | undefined;
  /** Timings of earlier sessions on this machine. */
  readonly timings: () => Promise<readonly SessionTiming[]>;
  /** Servers of the stages that run elsewhere. */
  readonly remote: RemoteServers;
  /** A plan in lines for people. */
  readonly lines: (plan: EditPlan) => readonly string[];
}

/** The tool, on a server that is opened when it is first called. */
export function planTool(server: () => Promise<EditServer>, { vram: given, timings, remote, lines }: Planning): Tool {
  return {
    definition: {
      name: "plan_edit",
      title: "Plan an edit",
      description:
        "Says what an edit would take, without making it: sizes, steps, memory, time, and model files that are missing. Refuses what edit_image would refuse.",
      inputSchema: editArguments(),
      outputSchema: {
        type: "object",
        properties: { plan: { type: "object", description: "what the command line prints as JSON" } },
        required: ["plan"],
      },
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    async call({ args }) {
      const { request } = await readArguments(args, { hasOutput: false });
      const { base, library, service } = await server();
      const warnings: string[] = [];
      const emit: Emit = (event) => void (event.kind === "warning" && warnings.push(`warning: ${event.text}`));
      const unresolved = await readRequest(request, {
        ...{ base, library, emit, hasPaths: true },
      });
      const { settings, given: named } = unresolved;
      refuseFilesElsewhere(settings, { given: named, elsewhere: library.elsewhere, emit });
      const device = service.devices[0]!;
      const plan = await planEdit(await resolveSettings(unresolved), {
        sources: await Promise.all(
          request.pictures.map(async ({ name, bytes }) => ({ name, ...(await readSize(bytes, name)) })),
        ),
        mask: request.mask && (await readPictures([request.mask]))[0],
        ...{ device, deviceReason: undefined, results: 1, remote },
        timings: await timings(),
        tokenizer: await loadTokenizer(),
        ...(await planMachine(device, given)),
      });
      const text = spelled([...lines(plan), ...warnings].map((line) => escapeControls(line)).join("\n"), asArgument);
      const written = JSON.parse(spelled(JSON.stringify(plan), quotedArgument)) as EditPlan;
      return { content: [{ type: "text", text }], structuredContent: { plan: written } };
    },
  };
}

// Within the texts of JSON.
function quotedArgument(name: string, value: string | undefined): string {
  return JSON.stringify(asArgument(name, value)).slice(1, -1);
}
