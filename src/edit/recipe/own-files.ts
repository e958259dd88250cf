// The files of an edit by the roles that records give them.
import { basename } from "node:path";
import type { ArtifactInfo } from "../../artifacts/artifact.js";
import type { Picture } from "../../stages/pictures.js";
import type { EditFiles } from "../resolve/resolve-edit.js";

/** What an edit reads. */
export interface OwnFiles {
  readonly pictures: readonly Pick<Picture, "name">[];
  readonly mask: Pick<Picture, "name"> | undefined;
  readonly files: EditFiles;
}

/** Paths by the roles of records: `image.1`, `mask`, `vae`, `lora.0`, …; a picture from stdin has none. */
export function filesByRole({ pictures, mask, files }: OwnFiles): Readonly<Record<string, string>> {
  const named: readonly (readonly [string, string | undefined])[] = [
    ...pictures.map(({ name }, index) => [`image.${index + 1}`, name === "stdin" ? undefined : name] as const),
    ["mask", mask?.name],
    ["vae", files.vae],
    ["text_encoder", files.textEncoder],
    ["transformer", files.transformer],
    ...files.loras.map(({ path }, index) => [`lora.${index}`, path] as const),
  ];
  return Object.fromEntries(named.flatMap(([role, path]) => (path === undefined ? [] : [[role, path]])));
}

/** The record of an edit with the names of its own files, where a result of an earlier one was taken whose equal files had others. */
export function withOwnNames(info: ArtifactInfo, own: OwnFiles): ArtifactInfo {
  const paths = filesByRole(own);
  const names = Object.entries(info.names ?? {}).map(
    ([role, name]) => [role, paths[role] === undefined ? name : basename(paths[role])] as const,
  );
  return { ...info, names: Object.fromEntries(names) };
}
