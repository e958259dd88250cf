// Other formats of weights that are given by mistake, recognised by their first bytes. Pickles run code when they are opened, so
// qedit never opens one.

const CONVERT = "Find the model as .safetensors";
const PICKLE = "which can run any code when it is opened";

/** What a file that is not safetensors is, by its first bytes; undefined when it is unknown. */
export function foreignFormat(start: Uint8Array): { found: string; hint?: string } | undefined {
  const text = new TextDecoder("latin1").decode(start);
  if (text.startsWith("PK\u0003\u0004"))
    return { found: `a zip archive, as PyTorch's .pt, .ckpt and .bin are: a pickle, ${PICKLE}`, hint: CONVERT };
  if (/^\u0080[\u0002-\u0005]/.test(text))
    return { found: `a Python pickle, as old .pt and .ckpt files are, ${PICKLE}`, hint: CONVERT };
  if (text.startsWith("GGUF"))
    return {
      found: "a GGUF file",
      hint: "A transformer or a text encoder may be one, nothing else: give a .safetensors file here",
    };
  if (text.startsWith("version https://git-lfs"))
    return { found: "a Git LFS pointer", hint: "Run `git lfs pull`, or download the file itself" };
  if (/^\s*<(!doctype|html|\?xml)/i.test(text))
    return { found: "a web page", hint: "Download the file itself, not its page" };
  return undefined;
}

/** Whether the first bytes are those of a Python pickle, bare or in PyTorch's zip archive. */
export function isPickle(start: Uint8Array): boolean {
  return foreignFormat(start)?.found.includes("pickle") ?? false;
}
