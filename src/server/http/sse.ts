// Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html, with comments that keep the line alive. A client that does
// not read is given up, so that what waits for it stays bounded.

/** Milliseconds between two comments. */
const KEEP_ALIVE = 15_000;
/** Bytes that wait for a client; what previews take is below. */
const MOST_WAITING = 32 * 1024 ** 2;

/** Writes events. */
export interface EventSink {
  /** `name` is the event's type; data is written as JSON, a text as it is. */
  readonly send: (name: string | undefined, data: unknown) => void;
  readonly close: () => void;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
}

/** A response that streams events; `work` starts them, and stops when the signal says that nobody reads. */
export function eventStream(
  work: (sink: EventSink) => void,
  { headers = {}, keepAlive = KEEP_ALIVE }: { headers?: Record<string, string>; keepAlive?: number } = {},
): Response {
  const gone = new AbortController();
  const encoder = new TextEncoder();
  let timer: NodeJS.Timeout | undefined;
  const stop = () => {
    clearInterval(timer);
    gone.abort();
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        const write = (text: string) => {
          if (gone.signal.aborted) return;
          controller.enqueue(encoder.encode(text));
          if ((controller.desiredSize ?? 0) >= -MOST_WAITING) return;
          stop();
          controller.error(new Error("the client does not read"));
        };
        timer = setInterval(() => write(": keep-alive\n\n"), keepAlive).unref();
        work({
          send(name, data) {
            const text = typeof data === "string" ? data : JSON.stringify(data);
            write(`${name === undefined ? "" : `event: ${name}\n`}data: ${text}\n\n`);
          },
          close() {
            if (gone.signal.aborted) return;
            stop();
            controller.close();
          },
          signal: gone.signal,
        });
      },
      cancel: stop,
    },
    { highWaterMark: 0, size: (chunk) => chunk?.byteLength ?? 0 },
  );
  return new Response(body, {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", ...headers },
  });
}
