// What happens on the server, for logs and metrics.
import type { ServiceEvent } from "../edit/service/job.js";
import type { StageName } from "../stages/stage.js";
import type { ServerJob } from "./server-job.js";

/** One thing that happened. */
export type ServerEvent =
  | { readonly kind: "accepted"; readonly job: ServerJob }
  /** `computation`: the id of the edit service's job, which its events have. */
  | { readonly kind: "started"; readonly job: ServerJob; readonly computation: string | undefined }
  | { readonly kind: "ended"; readonly job: ServerJob; readonly error?: unknown }
  | { readonly kind: "service"; readonly event: ServiceEvent }
  /** A stage that was asked for by itself; `waited`: seconds. */
  | { readonly kind: "stage started"; readonly stage: StageName; readonly waited: number }
  | { readonly kind: "stage ended"; readonly stage: StageName; readonly state: "completed" | "failed" | "cancelled" }
  /** The engine's process ended by itself, and is started again. */
  | { readonly kind: "restart"; readonly reason: string }
  | { readonly kind: "warning"; readonly text: string };
