// Profiles of the package name the files of dist/bundle; its source maps say which module each function is of.
import { existsSync, readFileSync } from "node:fs";
import { SourceMap } from "node:module";
import { fileURLToPath } from "node:url";
import type { Frame, Profile } from "./profile-parts.js";

/** The profile with every bundled function under the URL of its own module in dist; others stay as they are. */
export function unbundled(profile: Profile): Profile {
  const maps = new Map<string, SourceMap | undefined>();
  const mapOf = (url: string): SourceMap | undefined => {
    if (!maps.has(url)) maps.set(url, readMap(url));
    return maps.get(url);
  };
  const renamed = (frame: Frame): Frame => {
    if (!frame.url.includes("/dist/bundle/")) return frame;
    const entry = mapOf(frame.url)?.findEntry(frame.lineNumber, frame.columnNumber);
    const source = entry && "originalSource" in entry ? entry.originalSource : undefined;
    return typeof source === "string" ? { ...frame, url: new URL(source, frame.url).href } : frame;
  };
  return { ...profile, nodes: profile.nodes.map((node) => ({ ...node, callFrame: renamed(node.callFrame) })) };
}

function readMap(url: string): SourceMap | undefined {
  const path = `${fileURLToPath(url)}.map`;
  return existsSync(path)
    ? new SourceMap(JSON.parse(readFileSync(path, "utf8")) as ConstructorParameters<typeof SourceMap>[0])
    : undefined;
}
