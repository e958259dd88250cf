// Who of a worker's messages is next: some at once, the furthest on its way first, so that what was begun ends before more is begun.

/** Turns for some work at once. */
export class Turns {
  readonly #waiting: { readonly rank: number; readonly begin: () => void }[] = [];
  #busy = 0;

  constructor(private readonly atOnce: number) {}

  /** Does some work in its turn; of those that wait, the one of the highest rank that came first is next. Work may end its turn before it ends. */
  async take<T>(rank: number, work: (endTurn: () => void) => Promise<T>): Promise<T> {
    if (this.#busy < this.atOnce) this.#busy += 1;
    else await new Promise<void>((begin) => this.#waiting.push({ rank, begin }));
    let isOver = false;
    const endTurn = () => {
      if (!isOver) this.#next();
      isOver = true;
    };
    try {
      return await work(endTurn);
    } finally {
      endTurn();
    }
  }

  #next(): void {
    const rank = Math.max(...this.#waiting.map((each) => each.rank));
    const index = this.#waiting.findIndex((each) => each.rank === rank);
    if (index < 0) this.#busy -= 1;
    else this.#waiting.splice(index, 1)[0]!.begin();
  }
}
