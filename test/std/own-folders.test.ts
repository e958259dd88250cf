// Where things are kept, on each system.
import { join } from "node:path";
import { expect, test } from "vitest";
import { folderFor, type Purpose } from "../../src/std/own-folders.js";

const HOME = { HOME: "/home/ana" };
const XDG = {
  ...HOME,
  XDG_CONFIG_HOME: "/x/config",
  XDG_DATA_HOME: "/x/data",
  XDG_CACHE_HOME: "/x/cache",
  XDG_STATE_HOME: "/x/state",
};
const WINDOWS = { APPDATA: "C:/roaming", LOCALAPPDATA: "C:/local" };

test.each<[Purpose, string, string, string, string]>([
  [
    "config",
    "/home/ana/.config/qedit",
    "/x/config/qedit",
    "/home/ana/Library/Application Support/qedit",
    "C:/roaming/qedit",
  ],
  [
    "data",
    "/home/ana/.local/share/qedit",
    "/x/data/qedit",
    "/home/ana/Library/Application Support/qedit",
    "C:/local/qedit",
  ],
  ["cache", "/home/ana/.cache/qedit", "/x/cache/qedit", "/home/ana/Library/Caches/qedit", "C:/local/qedit/cache"],
  [
    "state",
    "/home/ana/.local/state/qedit",
    "/x/state/qedit",
    "/home/ana/Library/Application Support/qedit/state",
    "C:/local/qedit/state",
  ],
])("%s", (purpose, linux, xdg, mac, windows) => {
  expect(folderFor(purpose, HOME, "linux")).toBe(linux);
  expect(folderFor(purpose, XDG, "linux")).toBe(xdg);
  expect(folderFor(purpose, XDG, "darwin"), "XDG counts wherever it is set").toBe(xdg);
  expect(folderFor(purpose, HOME, "darwin")).toBe(mac);
  expect(folderFor(purpose, WINDOWS, "win32")).toBe(windows);
  expect(folderFor(purpose, { ...XDG, QEDIT_HOME: "/q" }, "linux"), "QEDIT_HOME decides about all").toBe(
    join("/q", purpose),
  );
});
