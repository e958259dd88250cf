// A zoom and a shift between two pictures, fitted to pairs of points of which many may be wrong.

/** `p → centre + zoom · (p − centre) + (x, y)`: x to the right and y downwards, in pixels of the frame that the fit was made in. */
export interface Similarity {
  readonly zoom: number;
  readonly x: number;
  readonly y: number;
}

/** Two points that show the same thing, counted from the centre of the frame: in the original and in the result. */
export interface PointPair {
  readonly from: readonly [x: number, y: number];
  readonly to: readonly [x: number, y: number];
}

/** A fit, how many pairs follow it, and how sure its zoom is (standard error). */
export interface RobustFit extends Similarity {
  readonly followers: number;
  readonly zoomError: number;
  /** Root mean square distance of the followers, pixels. */
  readonly residual: number;
}

/** Nothing moved. */
export const IDENTITY: Similarity = { zoom: 1, x: 0, y: 0 };

const TRIALS = 300;
const REFINEMENTS = 8;

/** Zooms beyond these are taken for mismatches. */
const ZOOM_RANGE = [0.75, 1.33] as const;

/** The similarity that most pairs follow within `tolerance` pixels, refined on those that do; undefined when fewer than three do. */
export function robustFit(pairs: readonly PointPair[], tolerance: number): RobustFit | undefined {
  let best: { fit: Similarity; count: number } | undefined;
  for (const fit of candidates(pairs)) {
    const count = pairs.reduce((sum, pair) => sum + Number(distance(fit, pair) <= tolerance), 0);
    if (best === undefined || count > best.count) best = { fit, count };
  }
  if (best === undefined || best.count < 3) return undefined;
  let { fit } = best;
  for (let i = 0; i < REFINEMENTS; i++)
    fit = weightedFit(pairs, (pair) => biweight(distance(fit, pair) / (2 * tolerance))) ?? fit;
  return quality(fit, pairs, tolerance);
}

function quality(fit: Similarity, pairs: readonly PointPair[], tolerance: number): RobustFit | undefined {
  const followers = pairs.filter((pair) => distance(fit, pair) <= tolerance);
  if (followers.length < 3) return undefined;
  const [mx, my] = means(followers, () => 1);
  const spread = followers.reduce((sum, { from: [x, y] }) => sum + (x - mx) ** 2 + (y - my) ** 2, 0);
  const squares = followers.reduce((sum, pair) => sum + distance(fit, pair) ** 2, 0);
  // Each pair gives two equations, the fit takes three numbers; each coordinate has half of the squares.
  const variance = squares / (2 * followers.length - 3);
  return {
    ...fit,
    followers: followers.length,
    zoomError: Math.sqrt(variance / Math.max(spread, 1e-9)),
    residual: Math.sqrt(squares / followers.length),
  };
}

// Two pairs decide a similarity: those of a fixed pseudo-random order, so that equal pictures give equal answers.
function* candidates(pairs: readonly PointPair[]): Iterable<Similarity> {
  let state = 12345;
  const next = () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * pairs.length);
  };
  for (let i = 0; i < TRIALS; i++) {
    const two = [pairs[next()], pairs[next()]];
    if (two[0] === undefined || two[1] === undefined || two[0] === two[1]) continue;
    const fit = weightedFit(two as PointPair[], () => 1);
    if (fit !== undefined) yield fit;
  }
}

// Least squares; undefined when the points lie too near each other or the zoom is out of range.
function weightedFit(pairs: readonly PointPair[], weight: (pair: PointPair) => number): Similarity | undefined {
  const [fx, fy, tx, ty, total] = means(pairs, weight);
  let product = 0;
  let spread = 0;
  for (const pair of pairs) {
    const w = weight(pair);
    const dx = pair.from[0] - fx;
    const dy = pair.from[1] - fy;
    product += w * (dx * (pair.to[0] - tx) + dy * (pair.to[1] - ty));
    spread += w * (dx * dx + dy * dy);
  }
  if (total < 1e-9 || spread < 1) return undefined;
  const zoom = product / spread;
  if (!(zoom >= ZOOM_RANGE[0] && zoom <= ZOOM_RANGE[1])) return undefined;
  return { zoom, x: tx - zoom * fx, y: ty - zoom * fy };
}

// Of both points, and the sum of the weights.
function means(
  pairs: readonly PointPair[],
  weight: (pair: PointPair) => number,
): [number, number, number, number, number] {
  let [fx, fy, tx, ty, total] = [0, 0, 0, 0, 0];
  for (const pair of pairs) {
    const w = weight(pair);
    fx += w * pair.from[0];
    fy += w * pair.from[1];
    tx += w * pair.to[0];
    ty += w * pair.to[1];
    total += w;
  }
  const divisor = Math.max(total, 1e-12);
  return [fx / divisor, fy / divisor, tx / divisor, ty / divisor, total];
}

function distance({ zoom, x, y }: Similarity, { from, to }: PointPair): number {
  const dx = zoom * from[0] + x - to[0];
  const dy = zoom * from[1] + y - to[1];
  return Math.sqrt(dx * dx + dy * dy);
}

// Tukey's: pairs far off count nothing.
function biweight(ratio: number): number {
  return ratio >= 1 ? 0 : (1 - ratio * ratio) ** 2;
}
