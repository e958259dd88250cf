// What parts of forms say together by their names: the order of pictures, and what may stand once.
import { QeditError } from "../../std/errors.js";
import { shown } from "../../std/foreign-text.js";
import type { FormPart } from "./multipart.js";

/** `image[0]`, as SDKs write lists. */
const NUMBER = /\[(\d+)\]$/;

/** Pictures in the order of their numbers, or as they came where none has one. Throws QEDIT_E_USAGE for numbers that do not count from 0. */
export function inOrder<Part extends FormPart>(pictures: readonly Part[]): readonly Part[] {
  const numbered = pictures.filter(({ name }) => NUMBER.test(name));
  if (numbered.length === 0) return pictures;
  const plain = pictures.find(({ name }) => !NUMBER.test(name));
  if (plain !== undefined) throw misnumbered(plain, "it has no number, and others have one");
  const ordered = numbered.toSorted((a, b) => numberOf(a) - numberOf(b));
  for (const [index, part] of ordered.entries()) {
    if (numberOf(part) < index) throw misnumbered(part, "its number is given twice");
    if (numberOf(part) > index) throw misnumbered(part, `there is no picture of number ${index}`);
  }
  return ordered;
}

/** The only part of those with one meaning, such as a mask; undefined: there is none. Throws QEDIT_E_USAGE for a second one. */
export function onlyOne<Part extends FormPart>([first, second]: readonly Part[]): Part | undefined {
  if (first !== undefined && second !== undefined) throw givenTwice(second.name, first.name);
  return first;
}

/** The error for a part that was given before, under this name or another one. */
export function givenTwice(name: string, before: string): QeditError {
  const also = before === name ? "" : `, also as "${shown(before)}"`;
  return new QeditError("QEDIT_E_USAGE", `Cannot use "${shown(name)}": it is given twice${also}`, {
    hint: "Give it once",
    parameter: shown(name),
  });
}

function numberOf({ name }: FormPart): number {
  return Number(NUMBER.exec(name)![1]);
}

function misnumbered({ name }: FormPart, reason: string): QeditError {
  return new QeditError("QEDIT_E_USAGE", `Cannot use "${shown(name)}": ${reason}`, {
    hint: 'Number all pictures from 0, "image[0]", "image[1]", or none',
    parameter: shown(name),
  });
}
