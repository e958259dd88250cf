// Whether a prompt mentions every picture. The model tends to ignore pictures that the prompt does not mention.

const WORDS: readonly (readonly string[])[] = [[], [], ["second", "other", "two"], ["third", "three"]];

/** Words that refer to all pictures at once. */
const ALL = /\b(all|both|together|each|every|pictures|images|photos|photographs|blend|merge|combine|mix)\b/i;

/** Numbers, from 2 on, of the pictures that a prompt does not mention. */
export function unmentionedPictures(prompt: string, count: number): readonly number[] {
  if (ALL.test(prompt)) return [];
  const numbers = Array.from({ length: Math.max(count - 1, 0) }, (_, index) => index + 2);
  return numbers.filter((number) => {
    const words = WORDS[number]?.join("|") ?? String(number);
    // The number alone or after a word, as in image2; Chinese prompts also write 图二.
    return !new RegExp(
      `(?<!\\d)${number}(?!\\d)|\\b(${words})\\b|[第图][${"一二三四五六七八九"[number - 1] ?? number}]`,
      "iu",
    ).test(prompt);
  });
}

/** A hint how to mention these pictures. */
export function mentionHint(numbers: readonly number[]): string {
  const named = numbers.map((number) => `picture ${number}`).join(" and ");
  return `the prompt does not name ${named}: the model may pass over ${numbers.length === 1 ? "it" : "them"}; write "picture ${numbers[0]}" where it is meant`;
}
