// One call of a subcommand: find the model files, choose the device, perform, print, and let everything go.
import { findModelFiles, findNamed } from "../catalog/find.js";
import { chooseEngine } from "../engine/device.js";
import { deviceName } from "../engine/providers.js";
import type { EditEvent } from "../pipeline/edit.js";
import { parseLora } from "../stages/loras.js";
import type { OptionTable, SettingsOf } from "../stages/option.js";
import type { CommandSpec } from "./commands.js";
import { interruptSignal } from "./interrupt.js";
import { commonOptions, settingsOf } from "./options.js";
import { refuseUnwritable } from "./output.js";
import { openRenderer } from "./renderer.js";

type AnySettings = SettingsOf<OptionTable>;

/** Runs a subcommand with what commander parsed; prints the path of the result, or with --json all about it, on stdout. */
export async function execute(spec: CommandSpec, args: readonly string[], parsed: Readonly<Record<string, unknown>>): Promise<void> {
  const common = settingsOf(commonOptions, parsed);
  const signal = interruptSignal();
  const given = settingsOf(spec.options, parsed);
  const output = spec.output(args, given);
  await refuseUnwritable(output);
  const settings = await withFiles(spec, given, common.model);
  const renderer = await openRenderer(common);
  const seconds: Record<string, number> = {};
  const emit = (event: EditEvent) => {
    if (event.kind === "end") seconds[event.stage] = Number(event.seconds.toFixed(3));
    renderer.emit(event);
  };
  const { engine, reason } = await chooseEngine(common.device ?? "auto", common.threads ?? 0);
  try {
    if (reason !== undefined) emit({ kind: "note", text: `computing on the CPU: ${reason}` });
    const outcome = await spec.perform({ args, settings, output }, { engine, emit, signal });
    renderer.close();
    const record = { ...outcome, device: deviceName(engine.device), seconds };
    process.stdout.write(common.json ? `${JSON.stringify(record, null, 2)}\n` : `${outcome.output}\n`);
  } finally {
    renderer.close();
    await engine.dispose();
  }
}

// Model files that the user named, or that the model's entry names, as paths on disk.
async function withFiles(spec: CommandSpec, settings: AnySettings, model: string | undefined): Promise<AnySettings> {
  const files = await findModelFiles(settings, { model, roles: spec.roles });
  const loras = (settings["lora"] ?? []) as readonly string[];
  const lora = await Promise.all(
    loras.map(async (written) => {
      const { path, strength } = parseLora(written);
      return `${await findNamed(path)}:${strength}`;
    }),
  );
  return { ...settings, ...files, ...(loras.length > 0 ? { lora } : {}) };
}
