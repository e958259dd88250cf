// A network split into groups of consecutive layers, one session each; the outputs of a group are feeds of those behind it. Resident groups stay open.
// Streamed groups are opened, run and closed at every pass; if the plan has room, the next one opens while one computes. Tokens pass through host memory.
import type { Model, Session } from "../../engine/sessions/engine.js";
import type { Tensors } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import type { NetworkPlan } from "./memory-plan.js";

/** An open network. */
export interface Chain {
  /** Runs each group on all feeds before the next group. Returns for each feed the outputs of the last group, and those that no group read. */
  run(feeds: readonly Tensors[]): Promise<Tensors[]>;
}

/** The graphs of a plan's groups. `opensAhead`: whether the next streamed group opens while one computes. */
export interface GroupModels {
  readonly models: readonly Model[];
  readonly opensAhead: boolean;
}

/** The graphs of a plan's groups; streamed ones are marked as transient. */
export function groupModels({ groups, opensAhead }: NetworkPlan, models: readonly Model[]): GroupModels {
  return {
    models: models.map((model, index) => (groups[index]!.isResident ? model : { ...model, isTransient: true })),
    opensAhead,
  };
}

/** Opens a network, uses it, and closes all its sessions, also after an error. */
export async function withChain<T>(
  context: Pick<StageContext, "engine" | "signal" | "emit">,
  { models, opensAhead }: GroupModels,
  use: (chain: Chain) => Promise<T>,
): Promise<T> {
  const { engine, signal } = context;
  const resident = new Map<Model, Session>();
  const streamed = streamedSessions(context, opensAhead);
  const run = async (feeds: readonly Tensors[]) => {
    let outputs: Tensors[] = feeds.map(() => ({}));
    for (const [index, model] of models.entries()) {
      signal.throwIfAborted();
      const session = resident.get(model) ?? (await streamed.open(model));
      const running = runAll(
        session,
        feeds.map((each, at) => pick({ ...each, ...outputs[at] }, model.inputs)),
      );
      // After the run has started: opening uses the engine's other thread.
      streamed.prefetch(models.slice(index + 1).find(({ isTransient }) => isTransient));
      const given = await running;
      outputs = outputs.map((each, at) => ({ ...without(each, model.inputs), ...given[at] }));
      if (model.isTransient) await streamed.close();
    }
    return outputs;
  };
  try {
    for (const model of models) if (!model.isTransient) resident.set(model, await engine.open(model));
    return await use({ run });
  } finally {
    await streamed.dispose();
    for (const session of resident.values()) await session.dispose();
  }
}

async function runAll(session: Session, feeds: readonly Tensors[]): Promise<Tensors[]> {
  const outputs: Tensors[] = [];
  for (const each of feeds) outputs.push(await session.run(each));
  return outputs;
}

interface StreamedSessions {
  /** Opens a group, or returns its prefetched session. */
  open(model: Model): Promise<Session>;
  /** Starts to open the next group, if there is one. */
  prefetch(model: Model | undefined): void;
  /** Closes the group that ran last. */
  close(): Promise<void>;
  /** Closes everything, also a session that is still opening. */
  dispose(): Promise<void>;
}

function streamedSessions(
  { engine, emit }: Pick<StageContext, "engine" | "emit">,
  opensAhead: boolean,
): StreamedSessions {
  let current: Session | undefined;
  let next: { readonly model: Model; readonly opened: Promise<Session | undefined> } | undefined;
  let isAllowed = opensAhead;

  const takeNext = async (model?: Model): Promise<Session | undefined> => {
    const { model: expected, opened } = next ?? {};
    const session = await opened;
    next = undefined;
    if (expected === model) return session;
    await session?.dispose();
    return undefined;
  };
  return {
    async open(model) {
      current = (await takeNext(model)) ?? (await engine.open(model));
      return current;
    },
    prefetch(model) {
      if (!isAllowed || model === undefined || next) return;
      const opened = engine.open(model).catch((error: Error) => {
        // There may be room once the current group has closed: open() tries again and reports any other error.
        isAllowed = false;
        emit({
          kind: "detail",
          text: `${model.name} is opened when its turn comes, and so are the others: ${error.message}`,
        });
        return undefined;
      });
      next = { model, opened };
    },
    async close() {
      const session = current;
      current = undefined;
      await session?.dispose();
    },
    async dispose() {
      await current?.dispose();
      await takeNext();
    },
  };
}

function without(tensors: Tensors, names: readonly string[]): Tensors {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => !names.includes(name)));
}

function pick(tensors: Tensors, names: readonly string[]): Tensors {
  return Object.fromEntries(names.flatMap((name) => (tensors[name] ? [[name, tensors[name]]] : [])));
}
