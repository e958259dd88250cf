// One exported model on a server, as Triton serves what `qedit export triton` wrote: what it says it is, and its runs, whose tensors are checked.
import { type ListedModel, type ListedTensor, V2CallError } from "../../kserve/client/v2-client.js";
import { toFloat32, type V2Tensor } from "../../kserve/v2-tensor.js";
import { param, QeditError } from "../../std/errors.js";
import { shown } from "../../std/foreign-text.js";
import { float32, type Tensor, type Tensors, type TensorType, tensor } from "../../std/tensor.js";
import { type ExportedFacts, FACTS_PARAMETER, readFacts } from "./exported-facts.js";
import { foreignModel, type RemoteServer, unfit } from "./remote-model.js";

/** An exported model on a server. */
export interface ExportedThere {
  readonly name: string;
  /** The server's address. */
  readonly from: string;
  readonly facts: ExportedFacts;
  /** Lengths of an input as the server lists them; -1 is any. */
  readonly dims: (input: string) => readonly number[];
  /** The outputs, of which each is there with the type and the shape that are wanted. Throws V2CallError, QEDIT_E_NETWORK for others, QEDIT_E_BAD_OUTPUT. */
  readonly run: <Name extends string>(inputs: Tensors, outputs: WantedOutputs<Name>) => Promise<Record<Name, Tensor>>;
}

/** The type and shape of each output that a model has; undefined: any length. */
export type WantedOutputs<Name extends string> = Readonly<
  Record<Name, { readonly type: "float32" | "uint8" | "int64"; readonly shape: readonly (number | undefined)[] }>
>;

const DATATYPES: Readonly<Partial<Record<TensorType, "FP32" | "INT64" | "UINT8">>> = {
  float32: "FP32",
  int64: "INT64",
  uint8: "UINT8",
};
/** Bytes of a result are compared with those of a run elsewhere: far above latents and embeddings. */
const LARGEST_VALUE = 1e6;

/** What exported graphs say of values that are not finite, and what ONNX Runtime and CUDA say of memory. */
const NOT_FINITE = /must be finite/;
const OUT_OF_MEMORY = /failed to allocate|out of memory|bad_alloc|bad allocation/i;

/** Whether a model takes exactly the tensors of these names, and gives those of others. */
export function isOfTensors(
  { inputs, outputs }: ListedModel,
  names: { readonly inputs: readonly string[]; readonly outputs: readonly string[] },
): boolean {
  const has = (listed: readonly ListedTensor[], wanted: readonly string[]) =>
    wanted.every((each) => listed.some(({ name }) => name === each));
  return inputs.length === names.inputs.length && has(inputs, names.inputs) && has(outputs, names.outputs);
}

/** An exported model that a server lists. Throws V2CallError, QEDIT_E_NETWORK for one that does not say what it is. */
export async function exportedThere(
  server: RemoteServer,
  { name, listed, roles }: { readonly name: string; readonly listed: ListedModel; readonly roles: readonly string[] },
): Promise<ExportedThere> {
  const facts = await factsOf(server, name, roles);
  const { address: from } = server;
  return {
    ...{ name, from, facts },
    dims: (input) => listed.inputs.find((each) => each.name === input)?.shape ?? [],
    async run(inputs, wanted) {
      const tensors = Object.entries(inputs).map(([input, value]) => sent(input, value));
      refuseUnfit(tensors, { name, listed, from });
      const { outputs } = await server.infer({ model: name, tensors, parameters: {} }).catch((error: unknown) => {
        throw told(error, { name, from });
      });
      return read(outputs, wanted, from);
    },
  };
}

async function factsOf(server: RemoteServer, name: string, roles: readonly string[]): Promise<ExportedFacts> {
  const text = (await server.parameters(name))[FACTS_PARAMETER];
  const read = text === undefined ? { fault: "is missing" } : readFacts(text);
  const missing = "fault" in read ? undefined : roles.find((role) => !Object.hasOwn(read.weights, role));
  const facts = missing === undefined ? read : { fault: `names no file as ${missing}` };
  if (!("fault" in facts)) return facts;
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot use the model "${name}" of the server at ${server.address}: the parameter "${FACTS_PARAMETER}" of its configuration, which says what was exported, ${facts.fault}`,
    { hint: `Export it again with this version: qedit export triton, or leave out ${param("remote")}` },
  );
}

function sent(name: string, { type, shape, data }: Tensor): V2Tensor {
  const datatype = DATATYPES[type];
  if (datatype === undefined) throw new Error(`internal: ${name} is ${type}`);
  return { name, datatype, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

// Throws QEDIT_E_NETWORK where a model does not take the tensors that it is sent.
function refuseUnfit(
  tensors: readonly V2Tensor[],
  { name, listed, from }: { readonly name: string; readonly listed: ListedModel; readonly from: string },
): void {
  const fits = ({ name: input, datatype, shape }: V2Tensor) => {
    const found = listed.inputs.find((each) => each.name === input);
    const isShape = (dims: readonly number[]) =>
      dims.length === shape.length && dims.every((dim, axis) => dim === -1 || dim === shape[axis]);
    return found !== undefined && found.datatype === datatype && isShape(found.shape);
  };
  const wrong = tensors.find((each) => !fits(each));
  if (wrong === undefined && listed.inputs.length === tensors.length) return;
  if (wrong === undefined || !listed.inputs.some((each) => each.name === wrong.name))
    throw foreignModel(name, listed, from);
  const { datatype, shape } = listed.inputs.find((each) => each.name === wrong.name)!;
  throw new QeditError(
    "QEDIT_E_NETWORK",
    `Cannot use the model "${name}" of the server at ${from}: it takes ${wrong.name} ${shown(datatype)} [${shape.join(", ")}], this edit has ${wrong.datatype} [${wrong.shape.join(", ")}]`,
    { hint: "Let all stages compute with files of one model" },
  );
}

function told(error: unknown, { name, from }: { readonly name: string; readonly from: string }): unknown {
  if (!(error instanceof V2CallError)) return error;
  const { fault, message } = error;
  if (NOT_FINITE.test(message))
    return new QeditError(
      "QEDIT_E_BAD_OUTPUT",
      `The server at ${from} computed values in ${name} that are not finite: ${message}`,
      {
        hint: "Model files that are not as published do this, and compute types that are too narrow: export it with others",
        cause: error,
      },
    );
  return OUT_OF_MEMORY.test(message) ? new V2CallError(fault, message, "QEDIT_E_MEMORY") : error;
}

function read<Name extends string>(
  outputs: ReadonlyMap<string, V2Tensor>,
  wanted: WantedOutputs<Name>,
  from: string,
): Record<Name, Tensor> {
  const other = [...outputs.keys()].find((name) => !(name in wanted));
  if (other !== undefined) throw unfit(from, `an output "${shown(other)}", which was not asked for`);
  const entries = Object.entries<WantedOutputs<Name>[Name]>(wanted).map(([name, { type, shape }]) => {
    const found = outputs.get(name);
    if (found === undefined) throw unfit(from, `it lacks the tensor "${name}"`);
    const lengths = shape.map((length) => length ?? -1).join(", ");
    const fits =
      found.datatype === DATATYPES[type] &&
      found.shape.length === shape.length &&
      shape.every((length, axis) => length === undefined || length === found.shape[axis]);
    if (!fits)
      throw unfit(
        from,
        `${name} ${found.datatype} [${found.shape.join(", ")}], wanted ${DATATYPES[type]} [${lengths}]`,
      );
    return [name, valuesOf(found, from)] as const;
  });
  return Object.fromEntries(entries) as Record<Name, Tensor>;
}

function valuesOf(found: V2Tensor, from: string): Tensor {
  if (found.datatype === "UINT8") return tensor("uint8", found.shape, new Uint8Array(found.data));
  // A copy, for bytes of a message lie anywhere.
  if (found.datatype === "INT64")
    return tensor("int64", found.shape, new BigInt64Array(Uint8Array.from(found.data).buffer));
  const values = toFloat32(found);
  const at = values.findIndex((value) => !(Math.abs(value) <= LARGEST_VALUE));
  if (at < 0) return float32(found.shape, values);
  const text = Number.isFinite(values[at]) ? `, more than ${LARGEST_VALUE}` : "";
  throw new QeditError(
    "QEDIT_E_BAD_OUTPUT",
    `Cannot use the answer of the server at ${from}: tensor "${found.name}" holds ${values[at]} at element ${at}${text}`,
    { hint: `See its log, or leave out ${param("remote")}` },
  );
}
