// Files of qedit's own package. They are found from this file alone: the build puts most modules together in dist/bundle, where this one is as deep as in dist/std.
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

/** Root of the package, with a trailing slash. */
export const PACKAGE_ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** A file that is beside the modules, by its path below src. */
export function packageFile(path: string): URL {
  return new URL(`../${path}`, import.meta.url);
}

/** A module that a thread or process starts with, by its path below src without extension: .js in the package, .ts where src itself runs. */
export function packageModule(path: string): URL {
  return packageFile(`${path}${extname(import.meta.url)}`);
}
