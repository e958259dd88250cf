// A network in pieces: sessions over consecutive layers, each fed what the one before it gave. Some stay open, the others are opened,
// run and closed at every pass, where the plan has room each one while the one before it computes; between them the tokens lie in host memory.
import type { Model, Session } from "../../engine/sessions/engine.js";
import type { Tensors } from "../../std/tensor.js";
import type { StageContext } from "../stage.js";
import type { NetworkPlan } from "./memory-plan.js";

/** An open network. */
export interface Chain {
  /** Runs every piece over all feeds before the next piece; gives what the last one gave, for each of the feeds. */
  run(feeds: readonly Tensors[]): Promise<Tensors[]>;
}

/** The graphs of a plan's groups, and whether the next one opens while one computes. */
export interface Pieces {
  readonly models: readonly Model[];
  readonly opensAhead: boolean;
}

/** The pieces of a plan, with those marked that it does not keep open. */
export function piecesOf({ groups, opensAhead }: NetworkPlan, models: readonly Model[]): Pieces {
  return {
    models: models.map((model, index) => (groups[index]!.isResident ? model : { ...model, isTransient: true })),
    opensAhead,
  };
}

/** Opens a network, uses it, and closes it whole, whatever happens. */
export async function withChain<T>(
  context: Pick<StageContext, "engine" | "signal" | "emit">,
  { models, opensAhead }: Pieces,
  use: (chain: Chain) => Promise<T>,
): Promise<T> {
  const { engine, signal } = context;
  const resident = new Map<Model, Session>();
  const passing = passingSessions(context, opensAhead);
  const run = async (feeds: readonly Tensors[]) => {
    let given: Tensors[] = feeds.map(() => ({}));
    for (const [index, model] of models.entries()) {
      signal.throwIfAborted();
      const session = resident.get(model) ?? (await passing.open(model));
      const running = runAll(
        session,
        feeds.map((each, at) => picked({ ...each, ...given[at] }, model.inputs)),
      );
      // After this run is under way: what opens takes the thread that is free.
      passing.expect(models.slice(index + 1).find(({ isTransient }) => isTransient));
      given = await running;
      if (model.isTransient) await passing.close();
    }
    return given;
  };
  try {
    for (const model of models) if (!model.isTransient) resident.set(model, await engine.open(model));
    return await use({ run });
  } finally {
    await passing.dispose();
    for (const session of resident.values()) await session.dispose();
  }
}

async function runAll(session: Session, feeds: readonly Tensors[]): Promise<Tensors[]> {
  const outputs: Tensors[] = [];
  for (const each of feeds) outputs.push(await session.run(each));
  return outputs;
}

interface Passing {
  /** Opens a piece, or gives the session that was opened for it while another one computed. */
  open(model: Model): Promise<Session>;
  /** Begins to open the next piece, if there is one. */
  expect(model: Model | undefined): void;
  /** Closes the piece that computed. */
  close(): Promise<void>;
  /** Closes everything, also what is still opening. */
  dispose(): Promise<void>;
}

function passingSessions({ engine, emit }: Pick<StageContext, "engine" | "emit">, opensAhead: boolean): Passing {
  let current: Session | undefined;
  let coming: { readonly model: Model; readonly opened: Promise<Session | undefined> } | undefined;
  let isAllowed = opensAhead;

  const taken = async (model?: Model): Promise<Session | undefined> => {
    const { model: expected, opened } = coming ?? {};
    const session = await opened;
    coming = undefined;
    if (expected === model) return session;
    await session?.dispose();
    return undefined;
  };
  return {
    async open(model) {
      current = (await taken(model)) ?? (await engine.open(model));
      return current;
    },
    expect(model) {
      if (!isAllowed || model === undefined || coming) return;
      const opened = engine.open(model).catch((error: Error) => {
        // Once that one has closed, there may be room; what else is wrong is met again.
        isAllowed = false;
        emit({
          kind: "detail",
          text: `${model.name} is opened when its turn comes, and so are the others: ${error.message}`,
        });
        return undefined;
      });
      coming = { model, opened };
    },
    async close() {
      const session = current;
      current = undefined;
      await session?.dispose();
    },
    async dispose() {
      await current?.dispose();
      await taken();
    },
  };
}

function picked(tensors: Tensors, names: readonly string[]): Tensors {
  return Object.fromEntries(names.flatMap((name) => (tensors[name] ? [[name, tensors[name]]] : [])));
}
