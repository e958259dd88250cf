// qedit mcp: edits for agents, over the Model Context Protocol on stdin and stdout.

import type { SettingsOf } from "../../edit/parameters/parameter.js";
import { DEVICE_PARAMETERS, MODEL_PARAMETERS } from "../../edit/parameters/table.js";
import { defineCommand } from "../command.js";
import { remoteOptions } from "../settings/remote-options.js";
import { cacheOptions, manyOptions } from "../settings/shared-options.js";
import { serveOptions } from "./serve.js";

const { model, modelsDir } = MODEL_PARAMETERS;
const { keepAlive } = serveOptions;

/** The options of `mcp`. */
export const mcpOptions = {
  ...{ keepAlive, model, modelsDir },
  ...DEVICE_PARAMETERS,
  ...manyOptions,
  ...cacheOptions,
  ...remoteOptions,
};

/** Their values. */
export type McpSettings = SettingsOf<typeof mcpOptions>;

/** `qedit mcp`. */
export const mcpCommand = defineCommand({
  examples: [
    "qedit mcp",
    "qedit mcp --model tiny --device cpu --keep-alive forever",
    "qedit mcp --remote sample=grpc://gpu-host:8001",
  ],
  options: mcpOptions,
  async perform(call, terminal) {
    const { serveAgents } = await import("../actions/serve-agents.js");
    await serveAgents(call, terminal);
  },
});
