// qedit models quantize: a transformer or a text encoder in 8 or 4 bits, made here from bf16 or fp8.
import { basename } from "node:path";
import { quantizeFile } from "../../../catalog/local/quantize-file.js";
import { openCheckpoint } from "../../../checkpoint/open.js";
import { defaulted, optional } from "../../../edit/parameters/parameter.js";
import { choice, text, toggle } from "../../../edit/parameters/parameter-kinds.js";
import { decimalSize } from "../../../std/byte-sizes.js";
import { QeditError } from "../../../std/errors.js";
import { defineCommand } from "../../command.js";

const call = { group: "Output", scope: "call" } as const;

/** `qedit models quantize transformer.safetensors --bits 8 -o small.safetensors`. */
export const quantize = defineCommand({
  examples: [
    "qedit models quantize qwen_image_edit_2509_bf16.safetensors --bits 8 -o qwen_image_edit_2509_int8.safetensors",
    "qedit models quantize ./text_encoder/ --bits 4 --block 64 -o encoder_int4.safetensors",
  ],
  positionals: [["<file>", "weights in bf16, fp16, fp32, fp8 or int8: a file, the index of shards, or a folder"]],
  options: {
    bits: defaulted(choice(["8", "4"]), "8", {
      ...call,
      summary: "of a weight: 8 is close to bf16, 4 is half of that and visibly another picture",
      placeholder: "<bits>",
    }),
    block: defaulted(choice(["32", "64", "128"]), "32", {
      ...call,
      summary: "weights that share a scale: more take less room, and lose more",
      placeholder: "<count>",
    }),
    output: optional(text, { ...call, summary: "the .safetensors file to write", short: "o", placeholder: "<file>" }),
    force: defaulted(toggle, false, { ...call, summary: "replace a file that is there", short: "f" }),
  },
  async perform({ args: [file], settings }, terminal) {
    const { output } = settings;
    if (output === undefined || !/\.safetensors$/i.test(output))
      throw new QeditError("QEDIT_E_USAGE", "Cannot quantise without a .safetensors file to write to", {
        hint: `qedit models quantize ${file} --bits ${settings.bits} -o ${basename(file!).replace(/\.[^.]*$/, "")}_int${settings.bits}.safetensors`,
      });
    terminal.emit({ kind: "activity", text: `reading ${file}` });
    const begin = performance.now();
    const written = await quantizeFile(await openCheckpoint(file!), output, {
      bits: settings.bits === "4" ? 4 : 8,
      block: Number(settings.block) as 32 | 64 | 128,
      overwrite: settings.force,
      signal: terminal.signal,
      onProgress(bytes, total) {
        const seconds = (performance.now() - begin) / 1000;
        terminal.emit({
          kind: "transfer",
          name: output,
          bytes,
          total,
          bytesPerSecond: seconds > 0 ? bytes / seconds : 0,
        });
      },
    });
    const { path, bytesBefore, bytes, matrices, kept, error, worst } = written;
    const percent = (part: number) => `${(part * 100).toPrecision(2)} %`;
    terminal.emit({
      kind: "note",
      text: `${matrices} matrices in ${settings.bits} bits, ${kept} tensors as they were: ${decimalSize(bytesBefore)} became ${decimalSize(bytes)}. Weights are off by ${percent(error)} (root mean square), by ${percent(worst.error)} in ${worst.name}`,
    });
    terminal.result(written, [path]);
  },
});
