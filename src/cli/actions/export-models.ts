// Implements `qedit export triton`: finds and opens the model files, writes the repository, and says what it is.

import { basename } from "node:path";
import { publishedModel } from "../../catalog/published/models.js";
import type { SettingsOf } from "../../edit/parameters/parameter.js";
import { EDIT_PARAMETERS } from "../../edit/parameters/table.js";
import { modelLibrary } from "../../edit/resolve/model-library.js";
import { findEditFiles, openModels, type UnresolvedSettings, withNumbers } from "../../edit/resolve/resolve-edit.js";
import { resolveSettings } from "../../edit/resolve/resolve-settings.js";
import { inspectCuda } from "../../engine/cuda/inspect-cuda.js";
import { type Device, deviceName, parseDevice, parseDevices } from "../../engine/providers.js";
import type { TritonExport } from "../../export/triton/export-request.js";
import { exportTriton } from "../../export/triton/export-triton.js";
import { type Difference, differenceText, verifyExport } from "../../export/triton/verify-export.js";
import { decimalSize } from "../../std/byte-sizes.js";
import { param, QeditError } from "../../std/errors.js";
import type { Call } from "../command.js";
import type { tritonOptions } from "../commands/export/triton.js";
import type { Terminal } from "../render/terminal.js";

type ExportCall = Call<typeof tritonOptions>;
type ExportSettings = SettingsOf<typeof tritonOptions>;

/** Runs `qedit export triton`. */
export async function exportModels(call: ExportCall, terminal: Terminal): Promise<void> {
  const [folder] = call.args as [string];
  const { emit, signal } = terminal;
  const { force, verify } = call.settings;
  let differences: readonly Difference[] = [];
  const request = await requestOf(call, terminal);
  const exported = await exportTriton(folder, request, {
    ...{ force, emit, signal },
    ...(verify && {
      async verify(written: string) {
        differences = await verifyExport(written, request, { emit, signal });
      },
    }),
  });
  const device = request.gpus === undefined ? "cpu" : request.gpus.map((index) => `cuda:${index}`).join(",");
  terminal.result({ folder, device, ...exported, verified: verify ? differences : null }, [
    ...differences.map((each) => `${each.ensemble}: ${differenceText(each)}`),
    `${folder}: ${exported.ensembles.join(", ")} for ${device}, ${decimalSize(exported.linked)} of weights linked, ${decimalSize(exported.copied)} copied`,
  ]);
}

async function requestOf({ settings, given }: ExportCall, { emit }: Terminal): Promise<TritonExport> {
  const { images, cfg: hasCfg, vram, force } = settings;
  const { device, gpus } = await placementOf(settings, emit);
  if (gpus === undefined && given.get("vram")?.isOfCall)
    throw new QeditError("QEDIT_E_USAGE", `Cannot use ${param("vram")} for a server without a GPU: it has no effect`, {
      hint: `Leave it out, or add ${param("device", "cuda")}`,
      parameter: "vram",
    });
  // Here it is a switch, in an edit a number.
  const { cfg: _, ...own } = settings;
  const givenOfEdit = new Map([...given].filter(([name]) => name !== "cfg"));
  const values = await resolveSettings({
    settings: { ...initialValues(), ...own },
    ...{ given: givenOfEdit, force, emit },
  });
  const files = await findEditFiles(values, emit);
  const models = await openModels(files, values, { library: modelLibrary(), emit });
  refuseOtherSampling(values);
  return {
    model: await nameOf(values),
    ...{ models, files, settings: withNumbers(values), images, hasCfg, device, gpus },
    vram: gpus === undefined ? undefined : vram,
  };
}

// The name of the model, or of the file that was named instead.
async function nameOf({ model, transformer, checkpoint }: UnresolvedSettings): Promise<string> {
  const named = transformer ?? checkpoint ?? model;
  return named === undefined ? (await publishedModel(undefined)).name : basename(named);
}

// What the graphs and the clients compute.
function refuseOtherSampling(values: SettingsOf<typeof EDIT_PARAMETERS>): void {
  for (const [name, only] of Object.entries({ sampler: "euler", scheduler: "simple" } as const)) {
    const wanted = values[name as "sampler" | "scheduler"];
    if (wanted !== only)
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot export a model whose ${name} is ${wanted}: an export has ${only} alone`,
        { hint: "Serve it with `qedit serve`, which has every sampler" },
      );
  }
}

// The values of an edit that an export has no options for.
function initialValues(): SettingsOf<typeof EDIT_PARAMETERS> {
  const initial = Object.entries(EDIT_PARAMETERS).map(([name, parameter]) => [name, parameter.initial]);
  return Object.fromEntries(initial) as SettingsOf<typeof EDIT_PARAMETERS>;
}

// The server's devices. A model is exported for CPUs or for GPUs, whether this machine has one or not.
async function placementOf(
  { device: wanted = "auto", gpus }: ExportSettings,
  emit: Terminal["emit"],
): Promise<Pick<TritonExport, "device" | "gpus">> {
  const devices = gpus === undefined ? parseDevices(wanted, 0) : gpus.map((index) => parseDevice(`cuda:${index}`, 0));
  if (gpus !== undefined && wanted !== "auto" && wanted !== "cuda")
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${param("device", wanted)} and ${param("gpus", gpus.join(","))} at once: both name the server's devices`,
      { hint: `Leave ${param("device")} out`, parameter: "device" },
    );
  if (devices === "auto") {
    const [problem] = (await inspectCuda()).problems;
    if (problem === undefined) return placed([parseDevice("cuda", 0)]);
    emit({
      kind: "note",
      text: `for servers without a GPU: ${problem.text} (${param("device", "cuda")} exports for GPUs)`,
    });
    return placed([parseDevice("cpu", 0)]);
  }
  return placed(devices);
}

function placed(devices: readonly Device[]): Pick<TritonExport, "device" | "gpus"> {
  const [first] = devices as readonly [Device];
  const gpus = devices.flatMap(({ provider, index }) => (provider === "cuda" ? [index] : []));
  if (gpus.length === 0) return { device: first, gpus: undefined };
  if (gpus.length === devices.length) return { device: first, gpus };
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot export for ${devices.map(deviceName).join(" and ")} at once: graphs are made for CPUs or for GPUs`,
    { hint: `Give ${param("device", "cpu")} or ${param("device", "cuda")}`, parameter: "device" },
  );
}
