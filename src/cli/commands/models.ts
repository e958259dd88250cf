// qedit models: published models, model files on disk, and downloads.
import { defineCommand } from "../command.js";
import { list } from "./models/list.js";
import { path } from "./models/path.js";
import { pull } from "./models/pull.js";
import { quantize } from "./models/quantize.js";
import { repacked } from "./models/repacked.js";
import { rm } from "./models/rm.js";
import { scan } from "./models/scan.js";
import { show } from "./models/show.js";
import { verify } from "./models/verify.js";

/** `qedit models VERB`. */
export const models = defineCommand({
  summary: "List, download, find and check model files",
  examples: ["qedit models list", "qedit models pull --preset fast-4", "qedit models scan ~/ComfyUI"],
  options: {},
  commands: { list, show, pull, verify, scan, path, quantize, repacked, rm },
});
