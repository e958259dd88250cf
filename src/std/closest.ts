// The word that a misspelled one is most like.

/** Typing errors of one word; with more it is another word. */
const MAX_EDITS = 3;

/** The candidate at the smallest edit distance; undefined when none is within 3 edits, or within half of the word's letters. */
export function closest(word: string, candidates: readonly string[]): string | undefined {
  const allowed = Math.min(MAX_EDITS, Math.floor(word.length / 2));
  const near = candidates
    .map((candidate) => ({ candidate, edits: editDistance(word, candidate) }))
    .filter(({ edits }) => edits <= allowed);
  return near.sort((a, b) => a.edits - b.edits)[0]?.candidate;
}

// Levenshtein's distance: insertions, deletions and replacements, one row of the table at a time.
function editDistance(a: string, b: string): number {
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
