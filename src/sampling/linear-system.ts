// Small systems of linear equations.

/** The x of matrix · x = right, by elimination with row exchange, each step rounded, to float32 unless otherwise; [] for an empty matrix. */
export function solve(matrix: readonly (readonly number[])[], right: readonly number[], round = Math.fround): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  const size = rows.length;
  for (let column = 0; column < size; column++) {
    const pivot = rows
      .slice(column)
      .reduce((best, row) => (Math.abs(row[column]!) > Math.abs(best[column]!) ? row : best));
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(column, 0, pivot);
    for (const row of rows.slice(column + 1)) {
      const factor = round(row[column]! / pivot[column]!);
      for (let j = column; j <= size; j++) row[j] = round(row[j]! - round(factor * pivot[j]!));
    }
  }
  const x = new Array<number>(size).fill(0);
  for (let i = size - 1; i >= 0; i--) {
    const known = x.reduce((sum, value, j) => (j > i ? round(sum + round(rows[i]![j]! * value)) : sum), 0);
    x[i] = round(round(rows[i]![size]! - known) / rows[i]![i]!);
  }
  return x;
}
