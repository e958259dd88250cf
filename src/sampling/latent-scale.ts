// The two scales of latents: the VAE's, and normalised by channel for the transformer, as ComfyUI's latent_format has them, in float32. Both ways round,
// so neither undoes the other by its own formula.

const f32 = Math.fround;

/** Of each channel of the VAE's latents. */
interface Statistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** A latent normalised: (latent − mean) / std. */
export function normaliseLatent(values: Float32Array, statistics: Statistics): Float32Array<ArrayBuffer> {
  return byChannel(values, statistics, normalised);
}

/** A normalised latent in the VAE's scale: latent · std + mean. */
export function denormaliseLatent(values: Float32Array, statistics: Statistics): Float32Array<ArrayBuffer> {
  return byChannel(values, statistics, denormalised);
}

/** A normalised latent that denormaliseLatent makes the given one of, bit for bit; where there is none, the nearest. */
export function beforeDenormalising(values: Float32Array, statistics: Statistics): Float32Array<ArrayBuffer> {
  return byChannel(values, statistics, (wanted, { mean, std }) => {
    for (const product of near(wanted - mean)) {
      if (f32(product + mean) !== wanted) continue;
      const found = firstOf(near(product / std), (value) => f32(value * std) === product);
      if (found !== undefined) return found;
    }
    return (wanted - mean) / std;
  });
}

interface Channel {
  readonly mean: number;
  readonly std: number;
}

function normalised(value: number, { mean, std }: Channel): number {
  return f32(value - mean) / std;
}

function denormalised(value: number, { mean, std }: Channel): number {
  return f32(value * std) + mean;
}

function byChannel(
  values: Float32Array,
  { mean, std }: Statistics,
  change: (value: number, channel: Channel) => number,
): Float32Array<ArrayBuffer> {
  const channels = mean.map((each, index) => ({ mean: f32(each), std: f32(std[index]!) }));
  const area = values.length / channels.length;
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = change(values[i]!, channels[Math.floor(i / area)]!);
  return out;
}

/** Each of two roundings moves a value by at most one float32, and a quotient of neighbours by one more. */
const REACH = 4;

// float32 values from the nearest one outwards.
function* near(value: number): Generator<number> {
  let [down, up] = [f32(value), f32(value)];
  yield down;
  for (let step = 1; step <= REACH; step++) {
    [down, up] = [neighbour(down, -1), neighbour(up, 1)];
    yield down;
    yield up;
  }
}

function firstOf(values: Iterable<number>, fits: (value: number) => boolean): number | undefined {
  for (const value of values) if (fits(value)) return value;
  return undefined;
}

// The next float32 below or above: their bits count on, upwards or downwards by the sign.
function neighbour(value: number, direction: 1 | -1): number {
  if (value === 0) return direction * 2 ** -149;
  const bits = new DataView(new ArrayBuffer(4));
  bits.setFloat32(0, value);
  bits.setInt32(0, bits.getInt32(0) + (value > 0 ? direction : -direction));
  return bits.getFloat32(0);
}
