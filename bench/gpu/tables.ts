// Formats a report as Markdown: the machine, the targets, and a table of every measured part.
import type { MeasureResult } from "./measures.js";
import type { EditResult, GpuReport, NetworkError, PyTorchRuns, RelativeErrors } from "./results.js";
import { isMet, judged, MOST_ERROR, type Target, targetsOf, worse } from "./targets.js";

type Cells = readonly string[];

/** The whole report. */
export function reportText(report: GpuReport): string {
  const { machine, pytorch } = report;
  const where = [
    machine.gpu ?? machine.cpu,
    machine.driver && `driver ${machine.driver}`,
    `Node ${machine.node}`,
    `onnxruntime-node ${machine.onnxruntime}`,
    pytorch && `PyTorch ${pytorch.versions["torch"]}`,
  ];
  const edits = [
    ...report.edits.map((edit, index) => editRow(index === 0 ? "cold, the first" : "cold, again", edit)),
    ...(report.warm ? [editRow("warm", report.warm)] : []),
  ];
  const parts = [
    table(
      ["target", "at most", "measured", "met"],
      targetsOf(report).map((target) => targetRow(target, report)),
    ),
    table(
      ["what", "qedit", "PyTorch eager", "PyTorch compiled", "ratio", "floor", "times the floor", "peak"],
      [...stepRows(report), ...networkRows(report)],
    ),
    table(
      ["against PyTorch in float32", "type", "root mean square", "largest", "at most", "PyTorch's own"],
      errorRows(report),
    ),
    table(
      ["what each measure brought", "nodes without", "with", "seconds without", "with", "ratio", "largest difference"],
      Object.values(report.measures).map(measureRow),
    ),
    table(["whole edit", "seconds", "of it in stages", "peak"], edits),
    factLines(report),
  ];
  const first = `${where.filter(Boolean).join(", ")}; ${report.date}${report.isRehearsal ? "; a rehearsal on tiny networks: the numbers mean nothing" : ""}`;
  return [first, ...parts.filter((lines) => lines.length > 0).map((lines) => lines.join("\n"))].join("\n\n");
}

const MET = { true: "yes", false: "no", undefined: "not measured" } as const;

// In a rehearsal the last column is empty: tiny networks meet every target.
function targetRow(target: Target, { isRehearsal }: GpuReport): Cells {
  const value = (number: number) =>
    ({ s: seconds(number), GB: `${number.toFixed(1)} GB`, times: number.toFixed(2), "": number.toExponential(1) })[
      target.unit
    ];
  return [
    target.what,
    value(target.limit),
    target.measured === undefined ? "" : value(target.measured),
    isRehearsal ? "" : MET[`${isMet(target)}`],
  ];
}

function stepRows({ networks, pytorch, matrixFlops }: GpuReport): Cells[] {
  const names = { transformer: "one step", "transformer-lora": "one step with a LoRA" } as const;
  return Object.entries(names).flatMap(([name, title]) => {
    const network = networks[name as keyof typeof names];
    return Object.entries(network?.runs ?? {}).map(([references, runs]) => {
      const peers = peersOf(pytorch?.runs ?? [], name, Number(references));
      const flops = network?.flops?.[Number(references)];
      const floor = flops === undefined || matrixFlops === undefined ? undefined : flops / matrixFlops;
      return [
        `${title}, ${references} reference${references === "1" ? "" : "s"}`,
        seconds(runs.median),
        ...peerCells(runs.median, peers),
        seconds(floor),
        floor === undefined ? "" : (runs.median / floor).toFixed(2),
        gigabytes(runs.peakBytes),
      ];
    });
  });
}

function networkRows({ networks, pytorch }: GpuReport): Cells[] {
  return Object.entries(networks).flatMap(([name, { compute, runs }]) => {
    const ours = runs[1];
    if (!ours || name.startsWith("transformer")) return [];
    return [
      [
        `${titleOf(name)}, ${compute}`,
        seconds(ours.median),
        ...peerCells(ours.median, peersOf(pytorch?.runs ?? [], name, 1)),
        "",
        "",
        gigabytes(ours.peakBytes),
      ],
    ];
  });
}

function peersOf(runs: readonly PyTorchRuns[], network: string, references: number): readonly (number | undefined)[] {
  return ["eager", "compiled"].map(
    (way) =>
      runs.find((each) => each.network === network && each.references === references && each.way === way)?.median,
  );
}

function peerCells(ours: number, peers: readonly (number | undefined)[]): Cells {
  const known = peers.filter((each) => each !== undefined);
  return [...peers.map(seconds), known.length === 0 ? "" : (ours / Math.min(...known)).toFixed(2)];
}

function errorRows({ pytorch }: GpuReport): Cells[] {
  const errors = pytorch?.errors ?? [];
  const limit = (each: NetworkError) =>
    `${MOST_ERROR.toExponential(1)}${worse(each) <= MOST_ERROR ? "" : ", exceeded"}`;
  return errors.map((each) => [
    titleOf(each.network),
    each.compute,
    errorText(each.rms),
    errorText(each.largest),
    judged(errors).includes(each) ? limit(each) : "reported only",
    each.own ? bothErrors(each.own) : "",
  ]);
}

const TITLES: Readonly<Record<string, string>> = {
  "vae-encode": "VAE encoder",
  "vae-decode": "VAE decoder",
  vision: "vision tower",
  language: "language model",
};

function titleOf(network: string): string {
  const plain = network.replace(/-(?:f32|bf16)$/, "");
  return TITLES[plain] ?? plain;
}

function measureRow({ title, without, with: with_, difference }: MeasureResult): Cells {
  const ratio = (with_.median / without.median).toFixed(2);
  return [
    title,
    String(without.nodes),
    String(with_.nodes),
    seconds(without.median),
    seconds(with_.median),
    ratio,
    difference === undefined ? "" : difference.toExponential(1),
  ];
}

function editRow(name: string, { seconds: all, stages, peakBytes }: EditResult): Cells {
  const parts = Object.entries(stages).map(([stage, took]) => `${stage} ${seconds(took)}`);
  return [name, seconds(all), parts.join(", "), gigabytes(peakBytes)];
}

function factLines({ networks, parity, matrixFlops, pytorch, skipped }: GpuReport): string[] {
  const attention = Object.entries(networks).flatMap(([name, { attention: kernels }]) =>
    Object.keys(kernels).map((kernel) => `${name} ${kernel}`),
  );
  const missing = Object.entries(networks).flatMap(([name, { withoutKernel }]) =>
    withoutKernel.map((reason) => `- ${name} has no kernel for ${reason}`),
  );
  const differences = (pytorch?.runs ?? []).map(
    ({ network, references, way, difference }) => `${network} ${references} ${way} ${bothErrors(difference)}`,
  );
  return [
    ...(matrixFlops === undefined
      ? []
      : [
          `- matrix rate: ${(matrixFlops / 1e12).toFixed(2)} TFLOP/s in ONNX Runtime${pytorch?.matrixFlops ? `, ${(pytorch.matrixFlops / 1e12).toFixed(2)} in PyTorch` : ""}`,
        ]),
    ...(attention.length === 0 ? [] : [`- attention kernels: ${attention.join(", ")}`]),
    ...(parity
      ? [
          `- tiny networks against the reference: ${parity.map(({ network, compute, error, tolerance }) => `${network} ${compute} ${error.toExponential(1)}${error <= tolerance ? "" : ` over ${tolerance}`}`).join(", ")}`,
        ]
      : []),
    ...(differences.length === 0
      ? []
      : [`- difference from PyTorch in the same type, root mean square and largest: ${differences.join(", ")}`]),
    ...missing,
    ...(pytorch?.notes ?? []).map((note) => `- PyTorch: ${note}`),
    ...Object.entries(skipped).map(([part, reason]) => `- not measured: ${part} (${reason})`),
  ];
}

function bothErrors({ rms, largest }: RelativeErrors): string {
  return `${errorText(rms)} / ${errorText(largest)}`;
}

function errorText(error: number | null): string {
  return error === null ? "no number" : error.toExponential(1);
}

function table(head: Cells, rows: readonly Cells[]): string[] {
  if (rows.length === 0) return [];
  return [head, head.map((_, column) => (column === 0 ? "---" : "---:")), ...rows].map(
    (row) => `| ${row.join(" | ")} |`,
  );
}

function seconds(value: number | undefined): string {
  if (value === undefined) return "";
  return value < 0.1 ? `${(value * 1000).toFixed(1)} ms` : `${value.toFixed(value < 10 ? 3 : 1)} s`;
}

function gigabytes(bytes: number | undefined): string {
  return bytes === undefined ? "" : `${(bytes / 1e9).toFixed(1)} GB`;
}
