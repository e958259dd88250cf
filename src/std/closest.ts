// The word that was probably meant.

/** More slips than this, and it is another word. */
const MOST_SLIPS = 3;

/** The candidate with the fewest insertions, deletions and replacements; undefined when none is near. */
export function closest(word: string, candidates: readonly string[]): string | undefined {
  const allowed = Math.min(MOST_SLIPS, Math.floor(word.length / 2));
  const near = candidates
    .map((candidate) => ({ candidate, slips: distance(word, candidate) }))
    .filter(({ slips }) => slips <= allowed);
  return near.sort((a, b) => a.slips - b.slips)[0]?.candidate;
}

// Levenshtein's distance, a row of his table at a time.
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row.push(Math.min(row[j - 1]! + 1, above[j]! + 1, above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    above = row;
  }
  return above[b.length]!;
}
