// Cosine and sine in float64 by their series. ONNX Runtime has kernels of its own for them only since 1.28; exported graphs also run before.
import type { Value } from "./value.js";

const TURN = 2 * Math.PI;
/** Angles of less than a turn are halved so often that a few terms of the series are exact to float64; each doubling at the end costs a bit. */
const HALVINGS = 4;
/** Powers of the last terms: 0.4^16 / 16! is below the rounding of float64. */
const LAST_POWER = { cosine: 16, sine: 15 };

/** Cosines and sines of angles f64 in radians, within 1e-14 where the angles are exact to it. */
export function cosineAndSine(angle: Value): { cos: Value; sin: Value } {
  // The cast cuts off what is behind the point, of negative numbers too.
  const turns = angle
    .mul(1 / TURN)
    .cast("i64")
    .cast("f64");
  const x = angle.sub(turns.mul(TURN)).mul(1 / 2 ** HALVINGS);
  const square = x.mul(x);
  let cos = series(square, LAST_POWER.cosine);
  let sin = series(square, LAST_POWER.sine).mul(x);
  for (let halving = 0; halving < HALVINGS; halving++)
    [cos, sin] = [cos.mul(cos).sub(sin.mul(sin)), cos.mul(sin).mul(2)];
  return { cos, sin };
}

// 1 − x²/(1·2) · (1 − x²/(3·4) · …) down from the last power; an odd one gives the series of the sine without its first x.
function series(square: Value, last: number): Value {
  let sum: Value | undefined;
  for (let power = last; power > 1; power -= 2) {
    const term = square.mul(-1 / (power * (power - 1)));
    sum = (sum === undefined ? term : term.mul(sum)).add(1);
  }
  return sum!;
}
