// What single stages make, in the store that clients and workers share: tensor files under their SHA-256, each with its record beside it, and by what
// determines a stage's result where that is.
import * as v from "valibot";
import { type Artifact, decodeArtifact, encodeArtifact, readableRecord } from "../../artifacts/artifact.js";
import { type ArtifactKind, KINDS } from "../../artifacts/kinds.js";
import { QeditError } from "../../std/errors.js";
import type { ClaimStore } from "./claim-store.js";
import type { SentArtifact } from "./kafka-messages.js";

/** What a stage made, and how long that took. */
export interface KeptArtifact {
  readonly artifact: SentArtifact;
  readonly seconds: number;
}

const keptSchema = v.object({
  artifact: v.object({
    kind: v.picklist(Object.keys(KINDS)),
    file: v.object({ uri: v.string(), sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)), size: v.number() }),
  }),
  seconds: v.number(),
});

/** Artifacts in the store. Its methods throw QEDIT_E_IO when it cannot be read or written. */
export class StageStore {
  constructor(private readonly store: ClaimStore) {}

  /** The artifact of a message. Throws QEDIT_E_ARTIFACT if it is not in the store, is damaged or of another kind, QEDIT_E_BAD_OUTPUT for bad values. */
  async read({ kind, file }: SentArtifact): Promise<Artifact> {
    const bytes = await this.store.unpack({ name: kind, data: file }).catch((error: unknown) => {
      if (!(error instanceof QeditError) || error.code !== "QEDIT_E_IMAGE") throw error;
      throw new QeditError("QEDIT_E_ARTIFACT", error.message, { hint: remedy(kind), cause: error });
    });
    return decodeArtifact(bytes, { kind: kind as ArtifactKind, name: file.uri.slice(0, 300) });
  }

  /** What was made of this content, if it is whole. */
  async find(content: string): Promise<KeptArtifact | undefined> {
    const kept = parsed(await this.store.readBeside(keyOf(content)));
    if (kept === undefined) return undefined;
    const { kind, file } = kept.artifact;
    const isWhole = await this.store.unpack({ name: kind, data: file }).then(
      () => true,
      (error: unknown) => {
        if (error instanceof QeditError && error.code === "QEDIT_E_IMAGE") return false;
        throw error;
      },
    );
    return isWhole ? kept : undefined;
  }

  /** Keeps what was made. The first one that is kept stays, for others may have gone on with it: gives the one that holds. */
  async keep(content: string, artifact: Artifact, seconds: number): Promise<KeptArtifact> {
    const file = await this.store.put(encodeArtifact(artifact));
    const record = Buffer.from(readableRecord(artifact));
    await this.store.writeBeside(`objects/${file.sha256.slice(0, 2)}/${file.sha256}.json`, record, { overwrite: true });
    const kept = { artifact: { kind: artifact.kind, file }, seconds };
    const bytes = Buffer.from(JSON.stringify(kept));
    const isNew = await this.store.writeBeside(keyOf(content), bytes, { overwrite: false });
    if (isNew) return kept;
    const found = await this.find(content);
    // What is there is damaged, or its file is.
    if (found === undefined) await this.store.writeBeside(keyOf(content), bytes, { overwrite: true });
    return found ?? kept;
  }
}

function keyOf(content: string): string {
  return `stages/${content.slice(0, 2)}/${content}.json`;
}

function parsed(bytes: Uint8Array | undefined): KeptArtifact | undefined {
  if (bytes === undefined) return undefined;
  try {
    const { success, output } = v.safeParse(keptSchema, JSON.parse(Buffer.from(bytes).toString("utf8")));
    return success ? output : undefined;
  } catch {
    return undefined;
  }
}

function remedy(kind: string): string {
  const { command } = KINDS[kind as ArtifactKind];
  return `Send the edit again from its first stage, or make the file with \`${command}\` and put it into the store`;
}
