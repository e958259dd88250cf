// Small systems of linear equations in float32.

const f32 = Math.fround;

/** The x of matrix · x = right, by elimination with row exchange, each step rounded to float32; [] for an empty matrix. */
export function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  const size = rows.length;
  for (let column = 0; column < size; column++) {
    const pivot = rows
      .slice(column)
      .reduce((best, row) => (Math.abs(row[column]!) > Math.abs(best[column]!) ? row : best));
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(column, 0, pivot);
    for (const row of rows.slice(column + 1)) {
      const factor = f32(row[column]! / pivot[column]!);
      for (let j = column; j <= size; j++) row[j] = f32(row[j]! - f32(factor * pivot[j]!));
    }
  }
  const x = new Array<number>(size).fill(0);
  for (let i = size - 1; i >= 0; i--) {
    const known = x.reduce((sum, value, j) => (j > i ? f32(sum + f32(rows[i]![j]! * value)) : sum), 0);
    x[i] = f32(f32(rows[i]![size]! - known) / rows[i]![i]!);
  }
  return x;
}
