// Implements `qedit serve status`, `load`, `unload` and `stop`: asks a running server, and shows what it says.
import { setTimeout as delay } from "node:timers/promises";
import { decimalSize } from "../../std/byte-sizes.js";
import { QeditError } from "../../std/errors.js";
import { serverToControl } from "../client/find-server.js";
import { ServerLost } from "../client/http-call.js";
import { loadedAnswer, type StatusAnswer, stoppingAnswer, unloadedAnswer } from "../client/server-answers.js";
import { shown } from "../render/shown.js";
import type { Terminal } from "../render/terminal.js";

/** Milliseconds between two looks at a server that stops. */
const INTERVAL = 100;
/** Milliseconds that its process may take after it has closed its doors. */
const PROCESS_TIMEOUT = 5_000;

/** Shows phase, version, device, queue, running jobs, open networks and models. */
export async function showStatus(named: string | undefined, terminal: Terminal): Promise<void> {
  const client = await serverToControl(named, terminal);
  const status = await client.status();
  const models = await client.models();
  const { version, phase, device, queued, running, limits, jobs, sessions } = status;
  const record = {
    ...{ server: client.address.text, version, phase, device },
    queue: { queued, running, limit: limits.queue },
    ...{ jobs, sessions },
    models: models.map(({ id }) => id),
  };
  const sum = sessions.reduce((total, { bytes }) => total + bytes, 0);
  terminal.result(record, [
    `${client.address.text}: ${phase}, qedit ${shown(version)}, computing on ${shown(device)}`,
    `queue: ${running} running, ${queued} waiting, ${limits.queue} at most`,
    ...jobs.map(jobLine),
    `open networks: ${sessions.length === 0 ? "none" : `${sessions.length}, ${decimalSize(sum)}`}`,
    ...sessions.map(
      ({ name, bytes, is_in_use: isInUse }) => `  ${shown(name)}  ${decimalSize(bytes)}${isInUse ? ", in use" : ""}`,
    ),
    `models: ${models.map(({ id, is_default: isDefault }) => `${shown(id)}${isDefault ? " (default)" : ""}`).join(", ") || "none"}`,
  ]);
}

/** Opens the networks of a model. */
export async function loadModel(model: string, named: string | undefined, terminal: Terminal): Promise<void> {
  const client = await serverToControl(named, terminal);
  terminal.emit({ kind: "activity", text: `opening ${model}` });
  const { seconds } = await client.post(`/v1/models/${encodeURIComponent(model)}/load`, loadedAnswer, terminal.signal);
  terminal.result({ model, seconds }, [`${model} is open after ${seconds.toFixed(1)} s`]);
}

/** Closes the networks that no job uses: those of all models, for a network does not know of which model it is. */
export async function unloadModels(
  model: string | undefined,
  named: string | undefined,
  terminal: Terminal,
): Promise<void> {
  const client = await serverToControl(named, terminal);
  if (model !== undefined) {
    const known = (await client.models()).map(({ id }) => id);
    if (!known.includes(model))
      throw new QeditError(
        "QEDIT_E_USAGE",
        `Cannot unload ${model}: the server at ${client.address.text} does not have it`,
        {
          hint: `It has ${known.join(", ") || "no model"}`,
        },
      );
    if (known.length > 1) terminal.emit({ kind: "note", text: "networks of other models are closed as well" });
  }
  const answer = await client.post("/v1/models/unload", unloadedAnswer, terminal.signal);
  const { closed, bytes, open } = answer;
  const left = open === 0 ? "" : `; ${open} in use stay open`;
  terminal.result(answer, [`Closed ${closed} ${closed === 1 ? "network" : "networks"}, ${decimalSize(bytes)}${left}`]);
}

/** Stops a server, and waits until it has ended. */
export async function stopServer(named: string | undefined, terminal: Terminal): Promise<void> {
  const client = await serverToControl(named, terminal);
  const { pid, running } = await client.post("/v1/stop", stoppingAnswer, terminal.signal);
  if (running > 0) terminal.emit({ kind: "note", text: "waiting for the job that runs" });
  while (await isAnswering(() => client.status())) await pause(terminal);
  const last = performance.now() + PROCESS_TIMEOUT;
  while (isAlive(pid) && performance.now() < last) await pause(terminal);
  terminal.result({ server: client.address.text, stopped: true }, [`${client.address.text} has stopped`]);
}

async function pause({ signal }: Terminal): Promise<void> {
  await delay(INTERVAL, undefined, { signal }).catch(() => {});
  signal.throwIfAborted();
}

function jobLine({ id, stage, step, steps }: StatusAnswer["jobs"][number]): string {
  const at = step === undefined || steps === undefined ? "" : `, step ${step} of ${steps}`;
  return `  job ${id}: ${stage === undefined ? "begins" : `${shown(stage)}${at}`}`;
}

async function isAnswering(ask: () => Promise<unknown>): Promise<boolean> {
  try {
    await ask();
    return true;
  } catch (error) {
    if (error instanceof ServerLost) return false;
    throw error;
  }
}

// Its process ends a moment after its doors are closed.
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
