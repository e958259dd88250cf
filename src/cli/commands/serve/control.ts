// qedit serve status, load, unload and stop: what is asked of a running server.
import { defineCommand } from "../../command.js";
import { serverOptions } from "../../settings/shared-options.js";

/** `qedit serve status`. */
export const status = defineCommand({
  examples: ["qedit serve status", "qedit serve status --server http://127.0.0.1:8000 --json"],
  options: serverOptions,
  async perform({ settings }, terminal) {
    const { showStatus } = await import("../../actions/control-server.js");
    await showStatus(settings.server, terminal);
  },
});

/** `qedit serve load MODEL`. */
export const load = defineCommand({
  examples: ["qedit serve load qwen-image-edit-2509"],
  positionals: [["<model>", "name of a model, as `qedit serve status` lists them"]],
  options: serverOptions,
  async perform({ args, settings }, terminal) {
    const { loadModel } = await import("../../actions/control-server.js");
    await loadModel(args[0]!, settings.server, terminal);
  },
});

/** `qedit serve unload`. */
export const unload = defineCommand({
  examples: ["qedit serve unload"],
  positionals: [["[model]", "name of a model; networks of other models are closed as well"]],
  options: serverOptions,
  async perform({ args, settings }, terminal) {
    const { unloadModels } = await import("../../actions/control-server.js");
    await unloadModels(args[0], settings.server, terminal);
  },
});

/** `qedit serve stop`. */
export const stop = defineCommand({
  examples: ["qedit serve stop"],
  options: serverOptions,
  async perform({ settings }, terminal) {
    const { stopServer } = await import("../../actions/control-server.js");
    await stopServer(settings.server, terminal);
  },
});
