// What determines the picture of a request, whoever computes it and when: the name of its result.
import { cacheKey } from "../artifacts/artifact-cache.js";
import { encodingOf } from "../edit/finish/picture-encoding.js";
import { RANDOM_SEED } from "../edit/parameters/parameter-kinds.js";
import { weightsElsewhere } from "../edit/remote/remote-weights.js";
import { type EditRequest, readRequest } from "../edit/request/edit-request.js";
import { determining } from "../edit/request/edit-stage.js";
import { resolveEdit } from "../edit/resolve/resolve-edit.js";
import { qeditVersion } from "../std/version.js";
import type { EditServer } from "./edit-server.js";
import { inputOf } from "./request-identity.js";

/** What a request comes to. */
export interface RequestContent {
  /** SHA-256 of settings, weights and inputs. */
  readonly sha256: string;
  /** In decimal. */
  readonly seed: string;
}

/** The content of the request of a job; `drawn` is its seed if it is left to chance. Throws as resolveEdit. */
export async function contentOf(
  request: EditRequest,
  { base, library }: Pick<EditServer, "base" | "library">,
  { job, drawn }: { readonly job: string; readonly drawn: bigint },
): Promise<RequestContent> {
  const unresolved = await readRequest(request, { base, library, hasPaths: false, emit: () => {} });
  const { values, settings, models, called } = await resolveEdit(unresolved, library);
  const seed = String(settings.seed === RANDOM_SEED ? drawn : settings.seed);
  const { vae, textEncoder, transformer, loras } = models;
  const sha256 = cacheKey({
    ...{ stage: "run", qedit: qeditVersion(), encoding: encodingOf(values) },
    settings: determining({ ...settings, seed }),
    weights: {
      ...{ vae: vae?.identity, textEncoder: textEncoder?.identity, transformer: transformer?.identity },
      ...(called && (await weightsElsewhere([...library.elsewhere], { called, models, job }))),
      loras: loras.map(({ identity, strength }) => [identity, strength]),
    },
    inputs: await Promise.all(request.pictures.map(inputOf)),
    mask: request.mask && (await inputOf(request.mask)),
  });
  return { sha256, seed };
}
