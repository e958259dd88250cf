// The files of an edit by their role in records.
import { basename } from "node:path";
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import type { Picture } from "../../stages/pictures.js";
import type { EditFiles } from "../resolve/resolve-edit.js";

/** The files that an edit reads. */
export interface OwnFiles {
  readonly pictures: readonly Pick<Picture, "name">[];
  readonly mask: Pick<Picture, "name"> | undefined;
  /** Undefined: those of another machine. */
  readonly files: EditFiles | undefined;
}

/** Paths by role: `image.1`, `mask`, `vae`, `lora.0`, …. A picture from stdin has no path. */
export function filesByRole({ pictures, mask, files }: OwnFiles): Readonly<Record<string, string>> {
  const named: readonly (readonly [string, string | undefined])[] = [
    ...pictures.map(({ name }, index) => [`image.${index + 1}`, name === "stdin" ? undefined : name] as const),
    ["mask", mask?.name],
    ["vae", files?.vae],
    ["text_encoder", files?.textEncoder],
    ["transformer", files?.transformer],
    ...(files?.loras ?? []).map(({ path }, index) => [`lora.${index}`, path] as const),
  ];
  return Object.fromEntries(named.flatMap(([role, path]) => (path === undefined ? [] : [[role, path]])));
}

/** A record with the file names of this edit. A cached result has the names of the edit that made it, whose equal files may be named differently. */
export function withOwnNames(info: ArtifactInfo, own: OwnFiles): ArtifactInfo {
  const paths = filesByRole(own);
  const names = Object.entries(info.names ?? {}).map(
    ([role, name]) => [role, paths[role] === undefined ? name : basename(paths[role])] as const,
  );
  return { ...info, names: Object.fromEntries(names) };
}
