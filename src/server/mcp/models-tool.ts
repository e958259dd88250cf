// The tool list_models: the models of the catalogue, and which of them are on this machine.
import { modelsOnDisk } from "../../catalog/local/inventory.js";
import type { RequestSettings } from "../../edit/request/edit-request.js";
import { refuseUnknownArguments } from "./edit-arguments.js";
import type { Tool } from "./tool.js";

const OUTPUT = {
  type: "object" as const,
  properties: {
    models: {
      type: "array",
      items: {
        type: "object",
        properties: {
          name: { type: "string" },
          summary: { type: "string" },
          is_complete: { type: "boolean", description: "whether all its files are on this machine" },
          is_default: { type: "boolean" },
          missing_bytes: { type: "integer", description: "what a download would take" },
          presets: { type: "array", items: { type: "string" }, description: "of the arguments fast and quality" },
          loras: { type: "array", items: { type: "string" }, description: "those on this machine" },
        },
        required: ["name", "is_complete", "is_default", "missing_bytes", "presets", "loras"],
      },
    },
  },
  required: ["models"],
};

/** The tool; `modelsDirs` are searched first, and `model` is that of edits that name none. */
export function modelsTool({ modelsDir, model: own }: Pick<RequestSettings, "modelsDir" | "model">): Tool {
  return {
    definition: {
      name: "list_models",
      title: "List models",
      description: "Lists the models that edit_image can use, and whether their files are on this machine.",
      inputSchema: { type: "object", properties: {}, additionalProperties: false },
      outputSchema: OUTPUT,
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    async call({ args }) {
      refuseUnknownArguments(args, []);
      const models = (await modelsOnDisk({ modelsDirs: modelsDir })).map(({ model, isDefault, missing, loras }) => ({
        ...{ name: model.name, summary: model.summary, is_complete: missing === 0 },
        is_default: own === undefined ? isDefault : model.name === own,
        missing_bytes: missing,
        presets: Object.keys(model.presets),
        loras: Object.entries(loras).flatMap(([name, { path }]) => (path === undefined ? [] : [name])),
      }));
      const lines = models.map(
        ({ name, summary, is_complete, is_default }) =>
          `${name}${is_default ? " (default)" : ""}: ${summary}${is_complete ? "" : `; not here: \`qedit models pull ${name}\``}`,
      );
      return { content: [{ type: "text", text: lines.join("\n") }], structuredContent: { models } };
    },
  };
}
