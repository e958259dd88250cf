// Sessions over the files that an edit looked at: what its records say of the weights was read from these before.
import { createHash } from "node:crypto";
import { changedFile } from "../../checkpoint/file-identity.js";
import type { Engine, Model } from "../../engine/sessions/engine.js";
import { QeditError } from "../../std/errors.js";

/** An engine that throws QEDIT_E_CHECKPOINT for a model of which a file has changed since its header was read. */
export function unchangedWeights(engine: Engine): Engine {
  return {
    device: engine.device,
    async open(model) {
      const session = await engine.open(model);
      const changed = await changedFile(model.stamps ?? new Map());
      if (changed === undefined) return session;
      await session.dispose();
      throw new QeditError("QEDIT_E_CHECKPOINT", `Cannot use ${changed}: it was changed after this edit began`, {
        hint: "Begin again, and change no file that an edit works with",
      });
    },
    dispose: () => engine.dispose(),
  };
}

/** What sessions are found by. */
export interface SessionKey {
  /** Of the graph: a serialized model contains the paths and offsets of its weights, whatever lies there. */
  readonly graph: string;
  /** Of the graph over its files as they were when their headers were read: equal keys mean equal weights. */
  readonly key: string;
}

/** Gives the keys of models. A serialized graph is megabytes and serves for many edits: each is hashed once. */
export function sessionKeys(): (model: Model) => SessionKey {
  const hashes = new WeakMap<Uint8Array, string>();
  return ({ bytes, optimization, stamps = new Map() }) => {
    const hash = hashes.get(bytes) ?? createHash("sha256").update(bytes).digest("hex");
    hashes.set(bytes, hash);
    const graph = `${optimization} ${hash}`;
    return { graph, key: JSON.stringify([graph, ...stamps]) };
  };
}
