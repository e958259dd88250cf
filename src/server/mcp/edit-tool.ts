// The tool edit_image: one edit, its file, and its picture as content.
import { dirname } from "node:path";
import { FORMATS } from "../../edit/finish/picture-encoding.js";
import type { EditRequest } from "../../edit/request/edit-request.js";
import { escapeControls } from "../../std/control-characters.js";
import type { EditServer } from "../edit-server.js";
import type { JobResult } from "../job-types.js";
import { editArguments, readArguments } from "./edit-arguments.js";
import { editProgress } from "./edit-progress.js";
import { type ResultFile, resultFile } from "./result-file.js";
import { shownPicture } from "./shown-result.js";
import type { Tool, ToolCall } from "./tool.js";

const OUTPUT = {
  type: "object" as const,
  properties: {
    path: { type: "string", description: "the file that was written" },
    width: { type: "integer" },
    height: { type: "integer" },
    seed: { type: "string", description: "in decimal: it has up to 64 bits" },
    seconds: { type: "object", additionalProperties: { type: "number" }, description: "by stage" },
    device: { type: "string" },
    drift: { type: ["object", "null"], description: "zoom and shift against picture 1" },
    warnings: { type: "array", items: { type: "string" } },
    recipe: { type: "object", description: "everything that determined the picture; it is in the file too" },
  },
  required: ["path", "width", "height", "seed", "seconds", "recipe"],
};

/** The tool, on a server that is opened when it is first called. */
export function editTool(server: () => Promise<EditServer>): Tool {
  const reserved = new Set<string>();
  return {
    definition: {
      name: "edit_image",
      title: "Edit a picture",
      description:
        "Edits pictures by a prompt with Qwen-Image-Edit on this machine, writes the result to a file and returns it. " +
        "Takes seconds to minutes. The prompt says what to change, in plain words; with several pictures it speaks of picture 1, picture 2. " +
        "No file is ever replaced.",
      inputSchema: editArguments({
        output: {
          type: "string",
          description:
            "path of the result, PNG, JPEG or WebP by its extension (default: beside picture 1, with -edit in its name); with a slash at its end a folder",
        },
      }),
      outputSchema: OUTPUT,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
    },
    async call(call) {
      const { request, firstPath, output } = await readArguments(call.args, { hasOutput: true });
      const opened = await server();
      const { format } = { ...opened.base.settings, ...request.parameters };
      using file = await resultFile(
        {
          output,
          input: firstPath ?? request.pictures[0]?.name ?? "generated.png",
          folder: firstPath === undefined ? "" : dirname(firstPath),
          // What is no format is refused with the other values.
          format: typeof format === "string" && Object.hasOwn(FORMATS, format) ? format : undefined,
        },
        reserved,
      );
      return edited(request, { server: opened, file, call });
    },
  };
}

async function edited(
  request: EditRequest,
  { server, file, call }: { readonly server: EditServer; readonly file: ResultFile; readonly call: ToolCall },
): ReturnType<Tool["call"]> {
  call.signal.throwIfAborted();
  const parameters = { ...request.parameters, format: request.parameters["format"] ?? file.format };
  const job = await server.submit({ ...request, parameters }, { hasPaths: true });
  const cancel = () => void job.cancel();
  call.signal.addEventListener("abort", cancel, { once: true });
  if (call.signal.aborted) cancel();
  const warnings: string[] = [];
  const report = editProgress(call.progress);
  const stop = job.subscribe((event) => {
    report(event);
    if (event.kind === "progress" && event.event.kind === "warning") warnings.push(event.event.text);
  });
  try {
    const result = await job.outcome;
    const bytes = await job.content();
    await file.write(bytes);
    return { ...(await contentOf(result, { bytes, file, warnings })) };
  } finally {
    stop();
    call.signal.removeEventListener("abort", cancel);
  }
}

async function contentOf(
  { type, width, height, seed, seconds, device, drift, recipe }: JobResult,
  { bytes, file, warnings }: { bytes: Uint8Array; file: ResultFile; warnings: readonly string[] },
): ReturnType<Tool["call"]> {
  const { data, mimeType, isWhole } = await shownPicture(bytes, type);
  const { path } = file;
  const lines = [
    `Wrote ${escapeControls(path)}: ${width}x${height}, seed ${seed}`,
    ...(isWhole ? [] : ["What is shown here is a smaller JPEG of it"]),
    ...warnings.map((text) => `warning: ${escapeControls(text)}`),
  ];
  return {
    content: [
      { type: "text", text: lines.join("\n") },
      { type: "image", data, mimeType },
    ],
    structuredContent: { path, width, height, seed, seconds, device, drift, warnings, recipe },
  };
}
