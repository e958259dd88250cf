// Which nodes of a graph a provider has no kernel for: they would fall to the CPU, with copies around them, or keep the session from opening.
import type { Graph, Node } from "../graph/graph.js";
import type { DType } from "../graph/types.js";
import { KERNELS } from "./kernel-table.js";
import type { Device } from "./providers.js";

/** A node without a kernel, and why: `no bf16 for T`. */
export interface MissingKernel {
  readonly node: string;
  readonly operator: string;
  readonly reason: string;
}

/** Nodes that have no kernel on a provider for the types they are given, by the table of the pinned release. */
export function missingKernels(graph: Graph, provider: Device["provider"]): readonly MissingKernel[] {
  const types = valueTypes(graph);
  return graph.nodes.flatMap((node) => {
    const operator = node.domain === "" ? node.operator : `${node.domain}.${node.operator}`;
    const reason = reasonAgainst(node, { operator, types, provider });
    return reason === undefined ? [] : [{ node: node.name, operator, reason }];
  });
}

function valueTypes({ inputs, externals, constants, values }: Graph): ReadonlyMap<string, DType> {
  const named = [...inputs.values(), ...values].map(({ name, dtype }) => [name, dtype] as const);
  const stored = [...externals, ...constants].map(([name, { dtype }]) => [name, dtype] as const);
  return new Map([...named, ...stored]);
}

interface Place {
  readonly operator: string;
  readonly types: ReadonlyMap<string, DType>;
  readonly provider: Device["provider"];
}

function reasonAgainst({ inputs, outputs }: Node, { operator, types, provider }: Place): string | undefined {
  const signature = KERNELS.signatures[operator];
  if (signature === undefined) return `the table does not know ${operator}: add it to fixtures/kernels/operators.ts`;
  const slots = [
    ...pairs(inputs, signature.inputs, signature.isVariadic),
    ...pairs(outputs, signature.outputs, signature.isVariadic),
  ];
  const bound = new Map<string, DType>();
  for (const [name, variable] of slots) {
    const type = types.get(name);
    if (variable === undefined || type === undefined)
      return `${name === "" ? "an output" : `"${name}"`} is not in the operator's signature`;
    const allowed = KERNELS.types[provider][operator]?.[variable] ?? [variable];
    if (!(allowed as readonly string[]).includes(type)) return `no ${type} for ${variable}`;
    const before = bound.get(variable) ?? type;
    if (before !== type) return `${variable} is both ${before} and ${type}`;
    bound.set(variable, type);
  }
  return undefined;
}

// Names beside their type variables; inputs left out are skipped, and the last variable of a variadic side repeats.
function pairs(
  names: readonly string[],
  variables: readonly string[],
  isVariadic: boolean,
): (readonly [string, string | undefined])[] {
  return names
    .map((name, index) => [name, variables[index] || (isVariadic ? variables.at(-1) : undefined)] as const)
    .filter(([name]) => name !== "");
}
