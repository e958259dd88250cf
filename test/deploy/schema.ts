// The definitions of custom resources, and checks values against them as an API server does; unlike it, it refuses keys that the schema lacks.

/** Where the definitions of custom resources come from. */
export const DEFINITIONS: Readonly<Record<string, readonly [module: string, path: string]>> = {
  ScaledObject: ["github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"],
  ServiceMonitor: operator("servicemonitors"),
  PodMonitor: operator("podmonitors"),
  PrometheusRule: operator("prometheusrules"),
  HTTPRoute: gateway("httproutes"),
  GRPCRoute: gateway("grpcroutes"),
  InferenceService: ["github.com/kserve/kserve@v0.15.2", "config/crd/full/serving.kserve.io_inferenceservices.yaml"],
};

function operator(plural: string): readonly [string, string] {
  const path = `example/prometheus-operator-crd/monitoring.coreos.com_${plural}.yaml`;
  return ["github.com/prometheus-operator/prometheus-operator@v0.85.0", path];
}

function gateway(plural: string): readonly [string, string] {
  return ["sigs.k8s.io/gateway-api@v1.4.0", `config/crd/standard/gateway.networking.k8s.io_${plural}.yaml`];
}

/** A schema of OpenAPI 3 as custom resources have it. */
export interface Schema {
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly unknown[];
  readonly pattern?: string;
  readonly "x-kubernetes-int-or-string"?: boolean;
  readonly "x-kubernetes-preserve-unknown-fields"?: boolean;
}

/** What is wrong, each with its path. */
export function faults(value: unknown, schema: Schema, path = ""): string[] {
  if (schema["x-kubernetes-int-or-string"])
    return typeof value === "number" || typeof value === "string" ? [] : [`${path}: a number or text is wanted`];
  if (schema.enum && !schema.enum.includes(value))
    return [`${path}: ${JSON.stringify(value)} is none of ${schema.enum}`];
  if (schema.pattern !== undefined && typeof value === "string" && !new RegExp(schema.pattern).test(value))
    return [`${path}: ${JSON.stringify(value)} does not match ${schema.pattern}`];
  if (schema.type !== undefined && !isOfType(value, schema.type)) return [`${path}: ${schema.type} is wanted`];
  if (Array.isArray(value))
    return value.flatMap((each, index) => faults(each, schema.items ?? {}, `${path}[${index}]`));
  if (typeof value !== "object" || value === null) return [];
  const { properties, additionalProperties } = schema;
  const missing = (schema.required ?? []).filter((key) => !(key in value)).map((key) => `${path}.${key}: missing`);
  const isOpen =
    schema["x-kubernetes-preserve-unknown-fields"] ||
    additionalProperties === true ||
    (!properties && !additionalProperties);
  const inside = Object.entries(value).flatMap(([key, each]) => {
    const own = properties?.[key] ?? (typeof additionalProperties === "object" ? additionalProperties : undefined);
    if (own) return faults(each, own, `${path}.${key}`);
    return isOpen ? [] : [`${path}.${key}: unknown`];
  });
  return [...missing, ...inside];
}

function isOfType(value: unknown, type: string): boolean {
  if (type === "array") return Array.isArray(value);
  if (type === "integer") return Number.isInteger(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return typeof value === type;
}
