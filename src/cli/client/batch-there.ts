// `qedit batch` on a server: its lines are resolved here, and each is a job there.
import { drawSeed } from "../../edit/resolve/draw-seed.js";
import type { Unresolved } from "../../edit/resolve/resolve-settings.js";
import type { Image } from "../../image/image.js";
import { param, QeditError } from "../../std/errors.js";
import type { ProgressEvent } from "../../std/events.js";
import type { JobLine } from "../jobs/job-lines.js";
import type { JobEnd } from "../jobs/many.js";
import { type FaultyLine, isPlanned, type OpenedLine, type PlannedLine, planLines } from "../jobs/planned-lines.js";
import type { RunSettings } from "../jobs/run-options.js";
import type { Terminal } from "../render/terminal.js";
import type { GivenSetting } from "../settings/settings.js";
import { canTake, type FoundServer, ownOptions, resolvedHere } from "./find-server.js";
import { editManyThere, type JobThere } from "./many-there.js";
import { editOf } from "./planned-there.js";
import { sentFiles } from "./sent-parameters.js";
import type { ServerClient } from "./server-client.js";

/** A job of a batch, whether it may replace a file, and what keeps its result. */
export interface LineThere {
  readonly line: PlannedLine;
  readonly force: boolean;
  readonly writing: (hash: string) => Promise<void>;
  readonly written: (image: () => Promise<Image>) => Promise<void>;
}

/** Resolves the lines for a server; undefined: one that was only found does not take them all. */
export async function planLinesThere(
  lines: readonly JobLine[],
  defaults: ReadonlyMap<string, GivenSetting>,
  { server, terminal }: { readonly server: FoundServer; readonly terminal: Terminal },
): Promise<(PlannedLine | FaultyLine)[] | undefined> {
  const { address } = server.client;
  const hasOwn = lines.some(({ given }) => ownOptions(given).length > 0);
  if (hasOwn && !server.isNamed) return undefined;
  // Emitted once it is clear who makes them.
  const events: ProgressEvent[] = [];
  const emit = (event: ProgressEvent) => void events.push(event);
  const open = async (unresolved: Unresolved<RunSettings>): Promise<OpenedLine> => {
    const { given } = unresolved;
    refuseOwn(given as ReadonlyMap<string, GivenSetting>, address.text);
    const values = await resolvedHere(unresolved);
    const { files } = await sentFiles(values, { address, given, emit });
    return { values, resolved: undefined, files };
  };
  const planned = await planLines(lines, { defaults, open, emit });
  const edits = planned.filter(isPlanned).map(({ images, values }) => ({ images, settings: values }));
  if (!(await canTake(server, edits, terminal))) return undefined;
  for (const event of events) terminal.emit(event);
  return planned;
}

/** Makes the jobs on a server. Throws as editManyThere. */
export async function editLinesThere(
  jobs: readonly LineThere[],
  {
    terminal,
    onEnd,
    ...many
  }: {
    readonly terminal: Terminal;
    readonly total: number;
    readonly maxFailures: number;
    readonly onEnd: (line: PlannedLine, end: JobEnd, seed: bigint) => Promise<void>;
  },
  client: ServerClient,
): Promise<void> {
  terminal.emit({ kind: "detail", text: `edited by the server at ${client.address.text}` });
  const byIndex = new Map<number, { readonly line: PlannedLine; readonly seed: bigint }>();
  const sent: JobThere[] = [];
  for (const { line, force, writing, written } of jobs) {
    const { images, values, path, name, index } = line;
    const note: Terminal["emit"] = (event) =>
      terminal.emit(event.kind === "note" ? { ...event, text: `${name}: ${event.text}` } : event);
    const { seed } = drawSeed(values, note).settings;
    byIndex.set(index, { line, seed });
    const files = await sentFiles(values, { address: client.address, given: new Map(), emit: () => {} });
    const edit = editOf({ images, settings: values, files, seed, path, result: { ...values, force } }, terminal.io);
    sent.push({ ...edit, name, index, writing, written: ({ image }) => written(image) });
  }
  await editManyThere(sent, {
    ...{ ...many, client, terminal, signal: terminal.signal, isFirstForAll: false },
    async onEnd({ index }, end) {
      const { line, seed } = byIndex.get(index)!;
      await onEnd(line, end, seed);
    },
  });
}

function refuseOwn(given: ReadonlyMap<string, GivenSetting>, server: string): void {
  const [own] = ownOptions(given);
  if (own === undefined) return;
  throw new QeditError(
    "QEDIT_E_USAGE",
    `Cannot use ${own.name} with the server at ${server}: it would have no effect there`,
    {
      hint: `Leave it out, or edit here: ${param("server", "none")}`,
    },
  );
}
