// README.md of an exported folder.
import { binarySize } from "../../std/byte-sizes.js";
import { type ExportFacts, SETTINGS_FILE, TOKENIZER_FILE } from "./client-settings.js";
import type { TensorSpec } from "./exported-model.js";
import { MAX_QUEUE } from "./member-config.js";

/** NVIDIA's image, by month: any later one serves the same folder. */
const IMAGE = "nvcr.io/nvidia/tritonserver:26.08-py3";
/** --http-max-input-size of Triton unless given, bytes. */
const HTTP_LIMIT = 64 * 1024 ** 2;

/** Memory of a model while it serves an edit of the default size, bytes of the device. */
export interface ModelMemory {
  readonly model: string;
  readonly weights: number;
  readonly activations: number;
}

/** What stands in the README besides the facts of qedit.json. */
export interface ReadmeFacts extends ExportFacts {
  readonly gpus: readonly number[] | undefined;
  readonly memory: readonly ModelMemory[];
  /** Bytes beside its weights that each model may take on a GPU, by name; undefined: no limit. */
  readonly memoryLimits: ReadonlyMap<string, number> | undefined;
}

/** The text of the README. */
export function exportReadme(facts: ReadmeFacts): string {
  return `${[title, serving, memory, limits, fixed, calling, tensors].map((section) => section(facts)).join("\n\n")}\n`;
}

function title({ model, version, ensembles }: ReadmeFacts): string {
  const names = ensembles.map(({ name }) => `\`${name}\``).join(", ");
  return `# ${model} for Triton Inference Server

Made by qedit ${version}. Each of ${names} is a whole edit: one request, one picture. The models are ONNX graphs for Triton's ONNX Runtime
backend; no Python and no other backend is needed.`;
}

function serving({ gpus }: ReadmeFacts): string {
  // All of them: a container that has some numbers them anew.
  const devices = gpus === undefined ? "" : " --gpus all";
  return `## Serve it

\`\`\`sh
docker run --rm${devices} -p 8000:8000 -p 8001:8001 -p 8002:8002 -v "$PWD":/models:ro \\
  ${IMAGE} \\
  tritonserver --model-repository=/models --exit-on-error=false --http-max-input-size=1073741824
\`\`\`

The files must be readable for the user of the container. \`.safetensors\` files may be hard links to those of a model store: do not change one in place, and
copy with \`cp -a\` or \`rsync -aH\`, which keep links between the models.

To open some of the models only, add \`--model-control-mode=explicit --load-model=${"qedit_1"}\`; an ensemble opens what it needs.${
    gpus === undefined
      ? ""
      : `\n\nThe configurations name GPUs by the numbers that the server sees: ${gpus.join(", ")}.`
  }`;
}

/** Sums over all models. */
export function totalMemory(memory: readonly ModelMemory[]): Omit<ModelMemory, "model"> {
  const sum = (part: "weights" | "activations") => memory.reduce((total, each) => total + each[part], 0);
  return { weights: sum("weights"), activations: sum("activations") };
}

function memory({ memory: rows, gpus, memoryLimits, megapixels }: ReadmeFacts): string {
  const device = gpus === undefined ? "The CPU" : gpus.length === 1 ? "The GPU" : "Each GPU";
  const { weights, activations } = totalMemory(rows);
  const limited = memoryLimits === undefined ? "" : " A larger picture is refused by the server.";
  const headings = ["model", "weights", "beside them", ...(memoryLimits ? ["at most (`gpu_mem_limit`)"] : [])];
  const cells = (row: ModelMemory) => [
    `\`${row.model}\``,
    binarySize(row.weights),
    binarySize(row.activations),
    ...(memoryLimits ? [binarySize(memoryLimits.get(row.model)!)] : []),
  ];
  return `## Memory

Every model stays open with its own weights, and keeps what a run took. For an edit of ${megapixels} megapixels with as many pictures as the largest
ensemble takes:

| ${headings.join(" | ")} |
|${headings.map(() => " --- |").join("")}
${rows.map((row) => `| ${cells(row).join(" | ")} |`).join("\n")}

${device} needs ${binarySize(weights + activations)} in all.${limited}`;
}

function limits(_facts: ReadmeFacts): string {
  return `## Limits

- HTTP bodies: Triton takes ${binarySize(HTTP_LIMIT)} unless \`--http-max-input-size\` is given, as above. gRPC takes 2 GiB.
- Time: \`tritonclient.http\` gives up after 60 s unless it is given \`network_timeout\` and \`connection_timeout\`; gRPC waits for ever.
- ${MAX_QUEUE} requests wait for each model, ten minutes at most; more are refused.
- Nothing is batched: each request is one edit. Request parameters are ignored: all that counts are the tensors.`;
}

function fixed({ weights, compute, sampling, device }: ReadmeFacts): string {
  const files = Object.entries(weights).map(
    ([role, { file, identity, strength }]) =>
      `| ${role} | \`${file}\`${strength === undefined ? "" : `, strength ${strength}`} | \`${identity}\` |`,
  );
  const types = Object.entries(compute).map(([network, type]) => `${network} ${type}`);
  return `## What is fixed

For ${device === "cpu" ? "CPUs" : "NVIDIA GPUs"}, computing in: ${types.join(", ")}. Sampler ${sampling.sampler}${
    sampling.cfgNorm === "none" ? "" : `; CFGNorm ${sampling.cfgNorm} with guidance`
  }. Clients choose the number of steps by \`sigmas\`; the model was published for ${
    sampling.sigmas
      ? `the ${sampling.steps} noise levels of \`${SETTINGS_FILE}\` alone`
      : `shift ${sampling.shift}, scheduler ${sampling.scheduler} and ${sampling.steps} steps`
  }.

| | file | identity |
| --- | --- | --- |
${files.join("\n")}`;
}

function calling({ sampling, ensembles }: ReadmeFacts): string {
  const at = sampling.cfg === undefined ? "" : ` at cfg ${sampling.cfg}`;
  const guided = ensembles.some(({ hasCfg }) => hasCfg) ? `, guidance${at} by \`_cfg\`` : "";
  return `## Call it

Clients tokenize, resize and draw noise. \`${SETTINGS_FILE}\` says how${guided}; \`${TOKENIZER_FILE}\` is the vocabulary, in the form that Hugging Face's
tokenizers read. qedit's docs/triton.md has clients in Python and Node. qedit itself is one, over gRPC or HTTP
(docs/remote-stages.md), and needs neither file: the configurations tell it what it must know.`;
}

function tensors({ ensembles, models }: ReadmeFacts): string {
  const table = (specs: readonly (readonly [string, TensorSpec])[]) =>
    [
      "| | tensor | type | shape | |",
      "| --- | --- | --- | --- | --- |",
      ...specs.map(
        ([kind, { name, datatype, dims, summary }]) =>
          `| ${kind} | \`${name}\` | ${datatype} | [${dims.join(", ")}] | ${summary.replaceAll("|", "\\|")} |`,
      ),
    ].join("\n");
  const all = [...ensembles.map((each) => ({ ...each, summary: aboutEnsemble(each) })), ...models];
  const sections = all.map(
    ({ name, summary, inputs, outputs }) =>
      `### ${name}\n\n${summary}\n\n${table([
        ...inputs.map((spec) => ["in", spec] as const),
        ...outputs.map((spec) => ["out", spec] as const),
      ])}`,
  );
  return `## Tensors\n\n-1 is a length that the request decides.\n\n${sections.join("\n\n")}`;
}

function aboutEnsemble({ images, hasCfg }: { readonly images: number; readonly hasCfg: boolean }): string {
  const guided = hasCfg ? ", with guidance" : "";
  if (images === 0) return `A picture of a prompt alone${guided}.`;
  return `The whole edit of ${images} ${images === 1 ? "picture" : "pictures"}${guided}.`;
}
