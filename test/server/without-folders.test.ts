import { homedir } from "node:os";
import { expect, test } from "vitest";
import { withoutFolders } from "../../src/server/without-folders.js";
import { PACKAGE_ROOT } from "../../src/std/package-files.js";

test.each([
  ["Cannot find a.safetensors in /srv/data/models", "Cannot find a.safetensors in models"],
  ['Cannot read "/srv/models/vae/a.safetensors": it is damaged', 'Cannot read "a.safetensors": it is damaged'],
  ["/a/b.safetensors, /a/c.safetensors:2 and (/a/d.gguf)", "b.safetensors, c.safetensors:2 and (d.gguf)"],
  [`${PACKAGE_ROOT}fixtures/tiny-model/x.safetensors takes 48`, "x.safetensors takes 48"],
  [`${homedir()}/my models/x.safetensors is damaged`, "my models/x.safetensors is damaged"],
])("%s", (text, wanted) => {
  expect(withoutFolders(text)).toBe(wanted);
});

test.each([
  "See https://huggingface.co/Comfy-Org/Qwen-Image-Edit_ComfyUI for it",
  "loras/step.safetensors and ../x.safetensors stay, 2/3 and 1/64 too",
  "Send image/png to /openapi.json",
])("%s", (text) => {
  expect(withoutFolders(text)).toBe(text);
});
