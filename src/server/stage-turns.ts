// Single stages that are asked for by themselves: each does its work when its turn comes among the jobs. They are seen and counted as jobs are.
import { ERRORS } from "../edit/error-table.js";
import type { EditService } from "../edit/service/service.js";
import { V2Error } from "../kserve/v2-error.js";
import { STAGES, type StageName } from "../stages/stage.js";
import { failureOf } from "../std/errors.js";
import type { ServerEvent } from "./server-event.js";

/** How many wait, and how many run. */
export interface Load {
  readonly queued: number;
  readonly running: number;
}

/** From this status on a failure is not the client's. */
const OWN_FAULT = 500;

/** The turns of single stages. */
export class StageTurns {
  readonly #loads = new Map<StageName, { queued: number; running: number }>(
    STAGES.map((stage) => [stage, { queued: 0, running: 0 }]),
  );

  constructor(
    private readonly service: () => Pick<EditService, "alone">,
    private readonly observe: (event: ServerEvent) => void,
  ) {}

  /** The stages that wait and run. */
  get loads(): ReadonlyMap<StageName, Load> {
    return this.#loads;
  }

  /** Does the work of a stage when its turn comes. A signal's reason is why it was stopped. */
  async take<T>(stage: StageName, work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const load = this.#loads.get(stage)!;
    const asked = performance.now();
    let place: "queued" | "running" = "queued";
    load.queued += 1;
    try {
      const result = await this.service().alone(() => {
        load.queued -= 1;
        load.running += 1;
        place = "running";
        this.observe({ kind: "stage started", stage, waited: (performance.now() - asked) / 1000 });
        return work();
      });
      this.observe({ kind: "stage ended", stage, state: "completed" });
      return result;
    } catch (error) {
      const state = stateOf(signal.aborted ? signal.reason : error);
      if (state !== undefined) this.observe({ kind: "stage ended", stage, state });
      throw error;
    } finally {
      load[place] -= 1;
    }
  }
}

// undefined for what is refused, for of edits too only those that were accepted count; and for what a stopping server leaves to others.
function stateOf(error: unknown): "failed" | "cancelled" | undefined {
  if (error instanceof V2Error) {
    // A request's own timeout stops its work, as its caller would.
    if (error.status === 504) return "cancelled";
    return error.status < OWN_FAULT ? undefined : "failed";
  }
  const { code } = failureOf(error);
  if (code === "QEDIT_E_INTERRUPTED") return "cancelled";
  const isLeft = code === "QEDIT_E_TERMINATED";
  return isLeft || ERRORS[code].http < OWN_FAULT ? undefined : "failed";
}
