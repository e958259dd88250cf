// What happens on the server, for logs and metrics.
import type { ServiceEvent } from "../edit/service/job.js";
import type { ServerJob } from "./server-job.js";

/** One thing that happened. */
export type ServerEvent =
  | { readonly kind: "accepted"; readonly job: ServerJob }
  /** `computation`: the id of the edit service's job, which its events have. */
  | { readonly kind: "started"; readonly job: ServerJob; readonly computation: string | undefined }
  | { readonly kind: "ended"; readonly job: ServerJob; readonly error?: unknown }
  | { readonly kind: "service"; readonly event: ServiceEvent }
  /** The engine's process ended by itself, and is started again. */
  | { readonly kind: "restart"; readonly reason: string }
  | { readonly kind: "warning"; readonly text: string };
