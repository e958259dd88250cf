// qedit models pull: downloads the missing files of a model, after showing their size and the free disk space.
import { refuseWithoutSpace } from "../../../catalog/download/disk.js";
import type { DownloadEvent } from "../../../catalog/download/progress.js";
import { pull as download, type PullItem, type PullPlan, planPull } from "../../../catalog/download/pull-files.js";
import { modelNames, preset } from "../../../catalog/published/models.js";
import { defaulted, optional } from "../../../edit/parameters/parameter.js";
import { number, text, texts } from "../../../edit/parameters/parameter-kinds.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { defineCommand } from "../../command.js";
import type { Terminal } from "../../render/terminal.js";
import { dryRun, exactBytes, modelsDir, yes } from "./model-options.js";

const options = {
  lora: defaulted(texts, [], {
    summary: "one of the model's LoRAs too, such as lightning-4steps; repeatable",
    group: "Models",
    scope: "call",
    placeholder: "<name>",
  }),
  preset: optional(text, {
    summary: "what a preset needs, such as fast-4",
    group: "Models",
    scope: "call",
    placeholder: "<name>",
  }),
  modelsDir: { ...modelsDir, summary: "put the files here, in ComfyUI's subfolders" },
  connections: optional(number({ minimum: 1, maximum: 32, whole: true }), {
    summary: "connections at once",
    group: "Models",
    initialText: "8",
    placeholder: "<count>",
  }),
  dryRun,
  yes,
};

/** That of qedit and of most models: others are shown before anything is downloaded. */
const OWN_LICENCE = "Apache-2.0";

/** `qedit models pull --preset fast-4`. */
export const pull = defineCommand({
  examples: [
    "qedit models pull",
    "qedit models pull qwen-image-edit-2511 --lora lightning-4steps --yes",
    "qedit models pull --preset fast-4 --dry-run",
    "HF_ENDPOINT=https://hf-mirror.com qedit models pull",
  ],
  positionals: [["[model...]", "names of models; the default one when they are left out"]],
  options,
  async perform({ args, settings }, terminal) {
    const models = args.length > 0 ? args : [(await modelNames())[0]];
    const [folder, ...others] = settings.modelsDir;
    const plan = await planPull({ models, loras: await lorasOf(models, settings), folder, modelsDirs: others });
    terminal.emit({ kind: "plan", lines: planLines(plan) });
    if (settings.dryRun) return terminal.result({ ...planRecord(plan), dryRun: true }, []);
    if (plan.bytes > 0) {
      await refuseWithoutSpace(plan.items.find(({ present }) => present === undefined)!.target, plan.bytes);
      if (
        !settings.yes &&
        !(await terminal.confirm(`Download ${decimalSize(plan.bytes)} to ${plan.folder}?`, "--yes"))
      ) {
        terminal.emit({ kind: "note", text: "nothing was downloaded" });
        return;
      }
    }
    const { connections } = settings;
    const downloaded = await download(plan, {
      signal: terminal.signal,
      emit: progressEmitter(terminal),
      ...(connections === undefined ? {} : { connections }),
    });
    for (const { path, isVerified } of downloaded) {
      if (!isVerified)
        terminal.emit({ kind: "warning", text: `no published hash of ${path} is known: it could not be checked` });
    }
    terminal.result(
      { ...planRecord(plan), downloaded },
      plan.items.map(({ present, target }) => present ?? target),
    );
  },
});

async function lorasOf(
  models: readonly (string | undefined)[],
  { lora, preset: name }: { lora: readonly string[]; preset: string | undefined },
): Promise<string[]> {
  if (name === undefined) return [...lora];
  const needed = await Promise.all(models.map(async (model) => (await preset(model, name)).lora ?? []));
  return [...new Set([...lora, ...needed.flat()])];
}

function planLines({ items, bytes, free, folder }: PullPlan): string[] {
  const lines = items.map(({ file, present, missing }) => {
    if (present !== undefined) return `${file.file}: on disk, at ${present}`;
    const rest = missing < file.bytes ? `, of which ${exactBytes(missing)} are still to come` : "";
    const terms = file.licence === OWN_LICENCE ? "" : `; ${file.licence}`;
    return `${file.file}: ${exactBytes(file.bytes)}${rest}${terms}`;
  });
  return [...lines, `to download: ${exactBytes(bytes)} to ${folder}, where ${decimalSize(free)} are free`];
}

function planRecord({ items, bytes, free, folder }: PullPlan): object {
  const itemRecord = ({ file, present, target, missing }: PullItem) => ({
    file: file.file,
    bytes: file.bytes,
    sha256: file.sha256 ?? null,
    licence: file.licence,
    path: present ?? target,
    isPresent: present !== undefined,
    missing,
  });
  return { files: items.map(itemRecord), bytes, free, folder };
}

// Converts download events to progress events: each file is a stage, its bytes are a transfer.
function progressEmitter({ emit }: Terminal): (event: DownloadEvent) => void {
  let stage: string | undefined;
  let before = { at: performance.now(), done: 0 };
  return (event) => {
    const activity = event.kind === "verifying" ? `checking ${event.file}` : event.file;
    if (activity !== stage && (event.kind === "progress" || event.kind === "verifying")) {
      if (stage !== undefined) emit({ kind: "end", stage, seconds: (performance.now() - before.at) / 1000 });
      emit({ kind: "start", stage: activity });
      [stage, before] = [activity, { at: performance.now(), done: event.done }];
    }
    if (event.kind === "progress")
      emit({
        kind: "transfer",
        name: event.file,
        bytes: event.done,
        total: event.total,
        bytesPerSecond: event.bytesPerSecond,
      });
    else if (event.kind === "verifying") {
      const seconds = (performance.now() - before.at) / 1000;
      emit({
        kind: "transfer",
        name: activity,
        bytes: event.done,
        total: event.total,
        bytesPerSecond: seconds > 0 ? event.done / seconds : 0,
      });
      if (event.done < event.total) return;
      emit({ kind: "end", stage: activity, seconds });
      stage = undefined;
    } else
      emit({
        kind: "note",
        text: `${event.file}: ${event.reason}${event.kind === "retrying" ? `, again in ${event.seconds.toFixed(1)} s` : ""}`,
      });
  };
}
