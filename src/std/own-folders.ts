// Where qedit keeps things: configuration, models, what can be made again, and what it remembers; each apart, where the system wants them.
// https://specifications.freedesktop.org/basedir-spec/latest/
import { homedir } from "node:os";
import { join } from "node:path";

/** What a folder is for: settings, models, what can be made again, and what was measured. */
export type Purpose = "config" | "data" | "cache" | "state";

const XDG: Readonly<Record<Purpose, readonly [variable: string, below: readonly string[]]>> = {
  config: ["XDG_CONFIG_HOME", [".config"]],
  data: ["XDG_DATA_HOME", [".local", "share"]],
  cache: ["XDG_CACHE_HOME", [".cache"]],
  state: ["XDG_STATE_HOME", [".local", "state"]],
};

const MAC: Readonly<Record<Purpose, readonly string[]>> = {
  config: ["Library", "Application Support"],
  data: ["Library", "Application Support"],
  cache: ["Library", "Caches"],
  state: ["Library", "Application Support"],
};

/** Settings roam with a user of Windows, the rest stays on the machine. */
const WINDOWS: Readonly<Record<Purpose, readonly [variable: string, below: readonly string[]]>> = {
  config: ["APPDATA", ["AppData", "Roaming"]],
  data: ["LOCALAPPDATA", ["AppData", "Local"]],
  cache: ["LOCALAPPDATA", ["AppData", "Local"]],
  state: ["LOCALAPPDATA", ["AppData", "Local"]],
};

/** qedit's own folder for a purpose, which may not exist yet. QEDIT_HOME, then the XDG variables, then the system's places decide. */
export function folderFor(
  purpose: Purpose,
  env: Readonly<Record<string, string | undefined>> = process.env,
  platform: string = process.platform,
): string {
  if (env["QEDIT_HOME"]) return join(env["QEDIT_HOME"], purpose);
  const home = env["HOME"] || homedir();
  const [variable, below] = XDG[purpose];
  if (env[variable]) return join(env[variable], "qedit");
  if (platform === "darwin") return join(home, ...MAC[purpose], "qedit", ...(purpose === "state" ? ["state"] : []));
  if (platform === "win32") {
    const [variable, below] = WINDOWS[purpose];
    return join(
      env[variable] || join(homedir(), ...below),
      "qedit",
      ...(purpose === "config" || purpose === "data" ? [] : [purpose]),
    );
  }
  return join(home, ...below, "qedit");
}
