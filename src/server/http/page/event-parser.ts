// Reads server-sent events from text that comes in pieces, https://html.spec.whatwg.org/multipage/server-sent-events.html. EventSource cannot send
// an API key.

/** An event of the stream. */
export interface StreamEvent {
  /** `message` unless the stream names it. */
  readonly name: string;
  readonly data: string;
}

/** A function that takes the next piece of a stream and gives the events that it completes. */
export function eventParser(): (piece: string) => StreamEvent[] {
  let [waiting, isStart] = ["", true];
  let [name, data]: [string, string[]] = ["", []];
  return (piece) => {
    waiting += piece;
    if (isStart && waiting !== "") {
      waiting = waiting.replace(/^\ufeff/, "");
      isStart = false;
    }
    const events: StreamEvent[] = [];
    // A carriage return at the end may be the first half of a line's end.
    for (let end = /\r\n|\n|\r(?!$)/.exec(waiting); end !== null; end = /\r\n|\n|\r(?!$)/.exec(waiting)) {
      const line = waiting.slice(0, end.index);
      waiting = waiting.slice(end.index + end[0].length);
      if (line === "") {
        if (data.length > 0) events.push({ name: name || "message", data: data.join("\n") });
        [name, data] = ["", []];
        continue;
      }
      const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!;
      if (field === "event") name = value;
      if (field === "data") data.push(value);
    }
    return events;
  };
}
