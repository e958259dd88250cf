// A service on the CPU for as long as a test works with it, and edits whose pictures are looked at.
import type { Outcome, ServiceEvent } from "../../src/edit/service/job.js";
import type { SubmittedEdit } from "../../src/edit/service/open-edit.js";
import { type EditService, openService, type ServiceOptions } from "../../src/edit/service/service.js";
import { toBytes } from "../../src/image/image.js";
import { type TinyEdit, tinyEdit } from "./edits.js";

/** An open service, and its events so far. */
interface Opened {
  readonly service: EditService;
  readonly events: ServiceEvent[];
}

/** Opens a service, works with it, and closes it. */
export async function withService<T>(
  options: Partial<ServiceOptions>,
  work: (opened: Opened) => Promise<T>,
): Promise<T> {
  const events: ServiceEvent[] = [];
  const service = await openService({
    device: "cpu",
    threads: 1,
    emit: (event) => void events.push(event),
    signal: new AbortController().signal,
    ...options,
  });
  try {
    return await work({ service, events });
  } finally {
    await service.close();
  }
}

/** An edit whose picture is kept here as bytes. */
export async function watched(
  edit: TinyEdit = {},
): Promise<{ edit: SubmittedEdit; bytes: () => Uint8Array | undefined }> {
  let bytes: Uint8Array | undefined;
  const submitted = await tinyEdit(edit);
  const onPicture: SubmittedEdit["onPicture"] = async ({ image }) => void (bytes = toBytes(image, "round").data);
  return { edit: { ...submitted, onPicture }, bytes: () => bytes };
}

/** The states of outcomes. */
export function states(outcomes: readonly Outcome[]): readonly string[] {
  return outcomes.map(({ state }) => state);
}
