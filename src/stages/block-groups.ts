// A network in pieces: sessions over consecutive layers, each fed what the one before it gave. Some stay open, the others are opened,
// run and closed at every pass; between them the tokens lie in host memory.
import type { Engine, Model, Session } from "../engine/engine.js";
import type { Tensors } from "../tensor.js";
import type { NetworkPlan } from "./memory-plan.js";
import type { StageContext } from "./stage.js";

/** An open network. */
export interface Chain {
  /** Runs every piece over all feeds before the next piece; gives what the last one gave, for each of the feeds. */
  run(feeds: readonly Tensors[]): Promise<Tensors[]>;
}

/** The pieces of a plan's groups, with those marked that it does not keep open. */
export function piecesOf(plan: NetworkPlan, models: readonly Model[]): Model[] {
  return models.map((model, index) => (plan.groups[index]!.isResident ? model : { ...model, isPassing: true }));
}

/** Opens a network, uses it, and closes what is open of it, whatever happens. */
export async function withChain<T>({ engine, signal }: Pick<StageContext, "engine" | "signal">, pieces: readonly Model[], use: (chain: Chain) => Promise<T>): Promise<T> {
  const resident = new Map<Model, Session>();
  const run = async (feeds: readonly Tensors[]) => {
    let given: Tensors[] = feeds.map(() => ({}));
    for (const piece of pieces) {
      signal.throwIfAborted();
      given = await withPiece(engine, { piece, session: resident.get(piece) }, async (session) => {
        const outputs: Tensors[] = [];
        for (const [index, each] of feeds.entries()) outputs.push(await session.run(picked({ ...each, ...given[index] }, piece.inputs)));
        return outputs;
      });
    }
    return given;
  };
  try {
    for (const piece of pieces) if (!piece.isPassing) resident.set(piece, await engine.open(piece));
    return await use({ run });
  } finally {
    for (const session of resident.values()) await session.dispose();
  }
}

async function withPiece<T>(engine: Engine, { piece, session }: { piece: Model; session: Session | undefined }, use: (session: Session) => Promise<T>): Promise<T> {
  if (session) return use(session);
  const opened = await engine.open(piece);
  try {
    return await use(opened);
  } finally {
    await opened.dispose();
  }
}

function picked(tensors: Tensors, names: readonly string[]): Tensors {
  return Object.fromEntries(names.flatMap((name) => (tensors[name] ? [[name, tensors[name]]] : [])));
}
