// Static membership of consumer groups, which @platformatic/kafka 1.22.0 does not offer for the protocol of KIP-848: its heartbeats name no instance, and it
// leaves for good when it is closed. https://cwiki.apache.org/confluence/display/KAFKA/KIP-848 says what a static member does instead.

/** Places of ConsumerGroupHeartbeat's arguments in the client's function. */
const EPOCH = 3;
const INSTANCE = 4;
const LEAVES = -1;
/** A static member is expected back: its partitions wait for it until its session ends. */
const LEAVES_FOR_NOW = -2;

type Call = (...parts: unknown[]) => unknown;
type GetApi = (name: string, done: (error: Error | null, api: Call | undefined) => void) => void;

/** Makes a consumer a static member, before it joins. Throws when the client is of another version than this was written for. */
export function asStaticMember(consumer: object, instance: string): void {
  const symbol = symbolOf(consumer, "plt.kafka.base.getApi");
  const inner = consumer as Record<symbol, GetApi>;
  const getApi = inner[symbol]!.bind(consumer);
  inner[symbol] = (name, done) =>
    getApi(name, (error, api) => {
      if (name !== "ConsumerGroupHeartbeat" || api === undefined) return done(error, api);
      done(error, (...parts) => {
        const named = [...parts];
        named[INSTANCE] = instance;
        if (named[EPOCH] === LEAVES) named[EPOCH] = LEAVES_FOR_NOW;
        return api(...named);
      });
    });
}

function symbolOf(consumer: object, description: string): symbol {
  for (let each: object | null = consumer; each !== null; each = Object.getPrototypeOf(each) as object | null) {
    const found = Object.getOwnPropertySymbols(each).find((symbol) => symbol.description === description);
    if (found !== undefined) return found;
  }
  throw new Error(`the Kafka client has no ${description}`);
}
