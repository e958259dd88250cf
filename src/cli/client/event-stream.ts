// Reads server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

/** One event. */
export interface StreamEvent {
  /** Its type; "message" unless it has one. */
  readonly name: string;
  readonly data: string;
}

/** Throws an error by `tooLong` for an event of more than `most` characters. */
export interface EventLimits {
  readonly most: number;
  readonly tooLong: () => Error;
}

/** The events of a stream, as they come. An event that the stream's end cuts off is none. */
export async function* streamEvents(
  chunks: AsyncIterable<Uint8Array>,
  { most, tooLong }: EventLimits,
): AsyncGenerator<StreamEvent> {
  // Drops a byte order mark at the start.
  const decoder = new TextDecoder("utf-8");
  let [rest, name, data]: [string, string, string[]] = ["", "", []];
  let length = 0;
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop()!;
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { name: name === "" ? "message" : name, data: data.join("\n") };
        [name, data, length] = ["", [], 0];
        continue;
      }
      const [, field = "", value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line)!;
      if (field === "event") name = value;
      if (field === "data") data.push(value);
      length += line.length;
      if (length > most) throw tooLong();
    }
    if (length + rest.length > most) throw tooLong();
  }
}
