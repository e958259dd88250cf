// Results on their way into the store: the next message, which may ask for the same, is begun before they are there.

/** Such results by content. */
export class KeptSoon<Result> {
  readonly #keeping = new Map<string, Promise<Result>>();

  /** The result of this content once it is kept; undefined if none is on its way. */
  of(content: string): Promise<Result> | undefined {
    return this.#keeping.get(content);
  }

  /** Keeps a result; the others find it from now on. */
  add(content: string, keep: () => Promise<Result>): Promise<Result> {
    const keeping = keep().finally(() => this.#keeping.delete(content));
    this.#keeping.set(content, keeping);
    return keeping;
  }
}
