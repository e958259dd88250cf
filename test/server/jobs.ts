// Jobs over HTTP, as tests ask for them.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import type { JobSnapshot } from "../../src/server/job-types.js";

/** A form with pictures by their paths, and fields. */
export function formOf(paths: readonly string[], fields: Readonly<Record<string, string>>): FormData {
  const form = new FormData();
  for (const path of paths) form.append("image", new Blob([readFileSync(path)]), basename(path));
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  return form;
}

/** Sends a job; throws unless it is accepted. */
export async function sendJob(url: string, form: FormData, headers: Record<string, string> = {}): Promise<JobSnapshot> {
  const response = await fetch(`${url}/v1/jobs`, { method: "POST", body: form, headers });
  const body = await response.text();
  if (response.status !== 202) throw new Error(`${response.status}: ${body}`);
  return JSON.parse(body) as JobSnapshot;
}

/** The job as it is now. */
export async function jobOf(url: string, id: string): Promise<JobSnapshot> {
  return (await (await fetch(`${url}/v1/jobs/${id}`)).json()) as JobSnapshot;
}

/** Waits until a job has ended. */
export async function endOf(url: string, id: string): Promise<JobSnapshot> {
  // The stream ends when the job has.
  await (await fetch(`${url}/v1/jobs/${id}/events`)).text();
  return jobOf(url, id);
}

/** The picture of a job. */
export async function contentOf(url: string, id: string): Promise<Buffer> {
  const response = await fetch(`${url}/v1/jobs/${id}/content`);
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  return Buffer.from(await response.arrayBuffer());
}

/** The events of a stream: names and data. */
export function eventsOf(text: string): readonly { readonly event: string; readonly data: Record<string, unknown> }[] {
  return text
    .split("\n\n")
    .filter((block) => block.startsWith("event:"))
    .map((block) => {
      const [, event = ""] = /^event: (.*)$/m.exec(block) ?? [];
      const [, data = "null"] = /^data: (.*)$/m.exec(block) ?? [];
      return { event, data: JSON.parse(data) as Record<string, unknown> };
    });
}
