// Spans for OpenTelemetry, by its API alone: without an SDK, which users attach with node's `--import`, they cost nothing. The id of a trace that a
// client sends (traceparent) goes through to jobs, the log and the spans. https://www.w3.org/TR/trace-context
import { type Context, context, propagation, type Span, SpanStatusCode, trace } from "@opentelemetry/api";
import type { ServerEvent } from "./server-event.js";
import type { ServerJob } from "./server-job.js";

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/;

/** The header if it is in its form, and names a trace. */
export function validTraceparent(header: string | undefined): string | undefined {
  const [, traceId, spanId] = TRACEPARENT.exec(header ?? "") ?? [];
  return traceId === undefined || /^0+$/.test(traceId) || /^0+$/.test(spanId!) ? undefined : header;
}

/** The id of the trace of a header: 32 hexadecimal digits. */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  return traceparent && TRACEPARENT.exec(traceparent)?.[1];
}

/** Spans of one job. */
interface JobSpans {
  readonly edit: Span;
  readonly within: Context;
  stage: Span | undefined;
}

/** Makes a span of each job, from its acceptance to its end, and of its stages within it. */
export function openTracing(version: string): (event: ServerEvent) => void {
  const tracer = trace.getTracer("qedit", version);
  const jobs = new Map<ServerJob, JobSpans>();
  const running = new Map<string, JobSpans>();
  return (event) => {
    if (event.kind === "accepted") {
      const { traceparent } = event.job.parts;
      const parent = propagation.extract(context.active(), traceparent === undefined ? {} : { traceparent });
      const edit = tracer.startSpan("edit", { attributes: { "qedit.job": event.job.id } }, parent);
      jobs.set(event.job, { edit, within: trace.setSpan(parent, edit), stage: undefined });
    }
    if (event.kind === "started") {
      const spans = jobs.get(event.job);
      spans?.edit.addEvent("started");
      if (spans && event.computation !== undefined) running.set(event.computation, spans);
    }
    if (event.kind === "service" && event.event.id !== undefined) {
      const spans = running.get(event.event.id);
      if (spans && event.event.kind === "start") spans.stage = tracer.startSpan(event.event.stage, {}, spans.within);
      if (spans && event.event.kind === "end") spans.stage?.end();
    }
    if (event.kind === "ended") end(event.job, event.error);
  };

  function end(job: ServerJob, error: unknown): void {
    const spans = jobs.get(job);
    jobs.delete(job);
    for (const [id, each] of running) if (each === spans) running.delete(id);
    if (!spans) return;
    spans.stage?.end();
    spans.edit.setAttribute("qedit.state", job.state);
    if (job.state === "failed")
      spans.edit.setStatus({ code: SpanStatusCode.ERROR, message: String((error as Error | undefined)?.message) });
    spans.edit.end();
  }
}
