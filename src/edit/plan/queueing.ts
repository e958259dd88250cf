// Waiting in the queue M/M/c: requests that come at random, independent of each other (Poisson), and c servers that take them in order.
// A. K. Erlang, 1917; formulas as in L. Kleinrock, Queueing Systems, volume 1, 1975, section 3.5. Its service times vary as the exponential
// distribution; edits of one size vary less, so that they wait about half as long (Allen and Cunneen's approximation): these numbers are the safe side.

/** The share of requests that `wait95` bounds. */
const MOST = 0.95;

/** How long requests wait before they are begun, seconds. */
export interface Waiting {
  /** The share of requests that wait at all. */
  readonly share: number;
  readonly mean: number;
  /** 95 % of the requests wait no longer. */
  readonly wait95: number;
}

/** Servers that are busy on average when `rate` requests a second take `seconds` each: Erlangs. */
export function offeredLoad(rate: number, seconds: number): number {
  return rate * seconds;
}

/**
 * The probability that a request finds all servers busy, for a load of fewer Erlangs than servers (Erlang C). By the recursion of Erlang B,
 * B(k) = a B(k-1) / (k + a B(k-1)), which neither overflows nor cancels.
 */
export function erlangC(servers: number, load: number): number {
  let blocked = 1;
  for (let k = 1; k <= servers; k++) blocked = (load * blocked) / (k + load * blocked);
  return blocked / (1 - (load / servers) * (1 - blocked));
}

/** How long requests wait for one of so many servers; forever when the load is as large as they are. */
export function waiting(servers: number, rate: number, seconds: number): Waiting {
  const load = offeredLoad(rate, seconds);
  if (load >= servers) return { share: 1, mean: Number.POSITIVE_INFINITY, wait95: Number.POSITIVE_INFINITY };
  const share = erlangC(servers, load);
  // A wait is exponential once there is one: P(wait > x) = share × exp(-spare × x).
  const spare = (servers - load) / seconds;
  return { share, mean: share / spare, wait95: Math.max(0, Math.log(share / (1 - MOST)) / spare) };
}
