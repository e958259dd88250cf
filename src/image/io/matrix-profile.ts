// Makes an ICC profile (version 2) of three primaries, a white point and a curve. https://www.color.org/icc32.pdf; adaptation to D50 by Bradford.

type Point = readonly [x: number, y: number];
type Triple = readonly [number, number, number];
type Matrix = readonly [Triple, Triple, Triple];

/** Chromaticities of red, green, blue and white. */
export type Primaries = readonly [red: Point, green: Point, blue: Point, white: Point];

const D50: Triple = [0.9642, 1, 0.8249];

const BRADFORD: Matrix = [
  [0.8951, 0.2664, -0.1614],
  [-0.7502, 1.7135, 0.0367],
  [0.0389, -0.0685, 1.0296],
];

/** Points of sRGB's curve: enough for 8 bits. */
const CURVE_POINTS = 1024;

/** The bytes of a profile. `gamma` is the exponent of the curve; 0 is for sRGB's curve. */
export function matrixProfile(name: string, [red, green, blue, white]: Primaries, gamma: number): Buffer {
  const columns = [xyz(red), xyz(green), xyz(blue)];
  const adapted = adaptation(xyz(white));
  const primaries = transposed(columns as unknown as Matrix);
  const shares = times(inverse(primaries), xyz(white));
  const tag = (index: 0 | 1 | 2) =>
    xyzTag(times(adapted, columns[index]!.map((value) => value * shares[index]!) as unknown as Triple));
  const curve = gamma === 0 ? sampledCurve() : curveTag([Math.round(gamma * 256)]);
  return profileOf([
    ["desc", Buffer.concat([words("desc", 0, name.length + 1), Buffer.from(`${name}\0`, "latin1"), Buffer.alloc(78)])],
    ["cprt", Buffer.concat([words("text", 0), Buffer.from("CC0\0", "latin1")])],
    ["wtpt", xyzTag(D50)],
    ["rXYZ", tag(0)],
    ["gXYZ", tag(1)],
    ["bXYZ", tag(2)],
    ["rTRC", curve],
    ["gTRC", curve],
    ["bTRC", curve],
  ]);
}

function profileOf(tags: readonly (readonly [name: string, body: Buffer])[]): Buffer {
  let offset = 128 + 4 + tags.length * 12;
  const table: Buffer[] = [];
  const bodies: Buffer[] = [];
  for (const [name, body] of tags) {
    table.push(words(name, offset, body.length));
    const padded = Buffer.concat([body, Buffer.alloc(-body.length & 3)]);
    bodies.push(padded);
    offset += padded.length;
  }
  const head = Buffer.alloc(128);
  head.writeUInt32BE(offset, 0);
  head.writeUInt32BE(0x02100000, 8);
  head.write("mntrRGB XYZ ", 12, "latin1");
  head.write("acsp", 36, "latin1");
  xyzTag(D50).copy(head, 68, 8);
  return Buffer.concat([head, words(tags.length), ...table, ...bodies]);
}

function words(...values: readonly (string | number)[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) {
    if (typeof value === "string") bytes.write(value, index * 4, "latin1");
    else bytes.writeUInt32BE(value, index * 4);
  }
  return bytes;
}

function xyzTag(values: Triple): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.write("XYZ ", 0, "latin1");
  for (const [index, value] of values.entries()) bytes.writeInt32BE(Math.round(value * 65536), 8 + index * 4);
  return bytes;
}

function curveTag(values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(12 + values.length * 2);
  bytes.write("curv", 0, "latin1");
  bytes.writeUInt32BE(values.length, 8);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, 12 + index * 2);
  return bytes;
}

// IEC 61966-2-1.
function sampledCurve(): Buffer {
  const linear = (level: number) => (level <= 0.04045 ? level / 12.92 : ((level + 0.055) / 1.055) ** 2.4);
  return curveTag(Array.from({ length: CURVE_POINTS }, (_, i) => Math.round(linear(i / (CURVE_POINTS - 1)) * 65535)));
}

function xyz([x, y]: Point): Triple {
  return [x / y, 1, (1 - x - y) / y];
}

function adaptation(white: Triple): Matrix {
  const [from, to] = [times(BRADFORD, white), times(BRADFORD, D50)];
  const scaled = BRADFORD.map((row, i) => row.map((value) => (value * to[i]!) / from[i]!)) as unknown as Matrix;
  return product(inverse(BRADFORD), scaled);
}

function times(matrix: Matrix, [a, b, c]: Triple): Triple {
  return matrix.map(([x, y, z]) => x * a + y * b + z * c) as unknown as Triple;
}

function product(a: Matrix, b: Matrix): Matrix {
  return transposed(transposed(b).map((column) => times(a, column)) as unknown as Matrix);
}

function transposed(matrix: Matrix): Matrix {
  return [0, 1, 2].map((column) => matrix.map((row) => row[column]!)) as unknown as Matrix;
}

function inverse([[a, b, c], [d, e, f], [g, h, i]]: Matrix): Matrix {
  const cofactors = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ];
  const determinant = a * cofactors[0]![0]! + b * cofactors[1]![0]! + c * cofactors[2]![0]!;
  return cofactors.map((row) => row.map((value) => value / determinant)) as unknown as Matrix;
}
