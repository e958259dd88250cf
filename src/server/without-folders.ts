// Texts for clients of a network: they learn how files are called, not where on the server they lie.
import { homedir } from "node:os";
import { PACKAGE_ROOT } from "../std/package-files.js";

/** The folders of an absolute path, with the slash before its last name. Not of a URL, nor of a relative path. */
const FOLDERS = /(?<![\w.:/~-])(?:\/[^\s/"'`,;:()\\]+)+\/(?=[^\s/"'`,;:()\\])/g;

/** The text with the names of files alone where it has absolute paths. */
export function withoutFolders(text: string): string {
  // The pattern ends at a space, which known folders may have: one without stands in for them.
  const known = [PACKAGE_ROOT, `${process.cwd()}/`, `${homedir()}/`].filter((folder) => folder.length > 2);
  return known.reduce((rest, folder) => rest.replaceAll(folder, "/qedit/"), text).replace(FOLDERS, "");
}
