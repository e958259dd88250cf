// Cosines and sines by their series against those of JavaScript, whose last bit may differ.
import { expect, test } from "vitest";
import { cosineAndSine } from "../../src/graph/trigonometry.js";
import { tensor } from "../../src/std/tensor.js";
import { evaluate } from "./run.js";

const PLACES = [0, 1, 2, 3, 7, 100, 511, 1023, 4096, 12_345, 100_000].flatMap((place) => [place, -place]);
const FREQUENCIES = [1, 0.7, 1e-2, 1e-4, Math.PI / 4, Math.PI / 2, Math.PI];
/** Angles of 1e5 are known to 1e-11. */
const SAME = 2e-11;

test("cosineAndSine are those of JavaScript, rounded to float32 too", async () => {
  const list = tensor("int64", [PLACES.length], BigInt64Array.from(PLACES.map(BigInt)));
  const scaled = 1e9;
  for (const frequency of FREQUENCIES) {
    const [cos, sin, fine] = await evaluate({ list }, ({ list }) => {
      const { cos, sin } = cosineAndSine(list!.cast("f64").mul(frequency));
      // float64 does not leave a graph: what float32 cannot hold is looked at in whole numbers.
      return [cos.cast("f32"), sin.cast("f32"), cos.mul(scaled).mul(scaled).cast("i64")];
    });
    PLACES.forEach((place, index) => {
      expect(Math.abs(Number(cos!.data[index]) - Math.cos(place * frequency))).toBeLessThan(6.1e-8);
      expect(Math.abs(Number(sin!.data[index]) - Math.sin(place * frequency))).toBeLessThan(6.1e-8);
      expect(Math.abs(Number(fine!.data[index]) / scaled / scaled - Math.cos(place * frequency))).toBeLessThan(SAME);
    });
  }
});
