// A network split into groups of consecutive layers, one session each; the outputs of a group are feeds of those behind it. Resident groups stay open.
// Streamed groups are opened, run and closed at every pass; if the plan has room, the next one opens while one computes. Tokens pass through host memory.
import type { Feeds, KeptNames, KeptTensor, Model, Session } from "../../engine/sessions/engine.js";
import type { Tensor, Tensors } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import type { NetworkPlan } from "./memory-plan.js";

/** An open network. */
export interface Chain {
  /** Runs each group on all feeds before the next group. Returns for each feed the outputs of the last group, and those that no group read. */
  run(feeds: readonly Feeds[]): Promise<Tensors[]>;
  /** As `run`, but outputs of these names stay in the engine where they can. */
  runKeeping(feeds: readonly Feeds[], names: readonly string[]): Promise<Feeds[]>;
  /** As `run`, but returns what no later group takes of the outputs of all groups, which stays in the engine where it can. */
  runKept(feeds: readonly Feeds[]): Promise<Feeds[]>;
}

/** The graphs of a plan's groups. */
export interface GroupModels {
  readonly models: readonly Model[];
  /** Whether the next streamed group opens while one computes. */
  readonly opensAhead: boolean;
  /** Feeds of several runs: they are sent once, and stay in the engine until the network is closed. */
  readonly lasting?: ReadonlySet<Tensor | KeptTensor>;
}

/** The graphs of a plan's groups; streamed ones are marked as transient. */
export function groupModels(
  { groups, opensAhead }: Pick<NetworkPlan, "groups" | "opensAhead">,
  models: readonly Model[],
): GroupModels {
  return {
    models: models.map((model, index) => (groups[index]!.isResident ? model : { ...model, isTransient: true })),
    opensAhead,
  };
}

/** Opens a network, uses it, and closes all its sessions, also after an error. */
export async function withChain<T>(
  context: Pick<StageContext, "engine" | "signal" | "emit">,
  { models, opensAhead, lasting = new Set() }: GroupModels,
  use: (chain: Chain) => Promise<T>,
): Promise<T> {
  const { engine, signal } = context;
  const resident = new Map<Model, Session>();
  const streamed = streamedSessions(context, opensAhead);
  const sent = new Map<Tensor | KeptTensor, KeptTensor>();
  const prepared = async (session: Session, feeds: Feeds): Promise<Feeds> => {
    const isNew = ([, feed]: readonly [string, Tensor | KeptTensor]) =>
      lasting.has(feed) && !sent.has(feed) && "data" in feed;
    const missing = Object.fromEntries(Object.entries(feeds).filter(isNew)) as Tensors;
    if (session.keep && Object.keys(missing).length > 0)
      for (const [name, kept] of Object.entries(await session.keep(missing))) sent.set(missing[name]!, kept);
    return Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, sent.get(feed) ?? feed]));
  };
  const through = async <Outputs extends Feeds>(
    feeds: readonly Feeds[],
    work: (session: Session, feeds: Feeds) => Promise<Outputs>,
    onOutputs: (outputs: readonly Outputs[]) => void = () => {},
  ): Promise<Outputs[]> => {
    let outputs = feeds.map(() => ({}) as Outputs);
    for (const [index, model] of models.entries()) {
      signal.throwIfAborted();
      const session = resident.get(model) ?? (await streamed.open(model));
      const running = inOrder(
        feeds.map((each, at) => pick({ ...each, ...outputs[at] }, model.inputs)),
        async (each) => work(session, await prepared(session, each)),
      );
      // After the run has started: opening uses the engine's other thread.
      streamed.prefetch(models.slice(index + 1).find(({ isTransient }) => isTransient));
      const given = await running;
      outputs = outputs.map((each, at) => ({ ...without(each, model.inputs), ...given[at] }) as Outputs);
      onOutputs(given);
      if (model.isTransient) await streamed.close();
    }
    return outputs;
  };
  const keeping = async (session: Session, feeds: Feeds, names: KeptNames): Promise<Feeds> =>
    session.runKept ? session.runKept(feeds, names) : session.run(feeds);
  const run = (feeds: readonly Feeds[]) => through(feeds, (session, each) => session.run(each));
  const runKeeping = (feeds: readonly Feeds[], names: readonly string[]) =>
    through(feeds, (session, each) => keeping(session, each, names));
  const runKept = async (feeds: readonly Feeds[]) => {
    const all = feeds.map(() => new Map<string, Tensor | KeptTensor>());
    const passed = new Set(models.flatMap(({ inputs }) => inputs));
    try {
      await through(
        feeds,
        (session, each) => keeping(session, each, "all"),
        (outputs) => {
          for (const [at, each] of outputs.entries())
            for (const [name, output] of Object.entries(each)) all[at]!.set(name, output);
        },
      );
    } catch (error) {
      for (const outputs of all) await disposeKept(outputs.values());
      throw error;
    }
    for (const outputs of all)
      await disposeKept([...outputs].flatMap(([name, output]) => (passed.has(name) ? [output] : [])));
    return all.map((outputs) => Object.fromEntries([...outputs].filter(([name]) => !passed.has(name))));
  };
  try {
    for (const model of models) if (!model.isTransient) resident.set(model, await engine.open(model));
    return await use({ run, runKeeping, runKept });
  } finally {
    await streamed.dispose();
    for (const session of resident.values()) await session.dispose();
    for (const kept of sent.values()) await kept.dispose();
  }
}

/** Frees those of some feeds that are kept in the engine. */
export async function disposeKept(feeds: Iterable<Tensor | KeptTensor>): Promise<void> {
  for (const feed of feeds) if (!("data" in feed)) await feed.dispose();
}

async function inOrder<In, Out>(all: readonly In[], work: (each: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  for (const each of all) results.push(await work(each));
  return results;
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

function without(tensors: Feeds, names: readonly string[]): Feeds {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => !names.includes(name)));
}

function pick(tensors: Feeds, names: readonly string[]): Feeds {
  return Object.fromEntries(names.flatMap((name) => (tensors[name] ? [[name, tensors[name]]] : [])));
}
