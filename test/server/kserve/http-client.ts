// A client of KServe V2 over HTTP, as tests call it.

/** A tensor: its elements as byte strings, or its bytes. */
export interface TestTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly bytes: Buffer;
}

/** A call of a model. */
export interface TestCall {
  readonly inputs: readonly TestTensor[];
  readonly parameters?: Readonly<Record<string, unknown>>;
  readonly outputs?: readonly string[];
  readonly id?: string;
}

/** Byte strings as a tensor. */
export function strings(name: string, ...elements: readonly (string | Uint8Array)[]): TestTensor {
  const parts = elements.flatMap((element) => {
    const bytes = Buffer.from(element as string);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return { name, datatype: "BYTES", shape: [elements.length], bytes: Buffer.concat(parts) };
}

/** The first byte string of a tensor. */
export function firstString({ bytes }: TestTensor): Buffer {
  return bytes.subarray(4, 4 + bytes.readUInt32LE());
}

/** Calls a model over HTTP with the binary extension; throws what the server refuses it with. */
export async function inferHttp(
  url: string,
  model: string,
  { inputs, parameters = {}, outputs, id }: TestCall,
): Promise<readonly TestTensor[]> {
  const json = Buffer.from(
    JSON.stringify({
      ...(id !== undefined && { id }),
      inputs: inputs.map(({ name, datatype, shape, bytes }) => ({
        ...{ name, datatype, shape },
        parameters: { binary_data_size: bytes.length },
      })),
      ...(outputs && { outputs: outputs.map((name) => ({ name, parameters: { binary_data: true } })) }),
      parameters: { binary_data_output: true, ...parameters },
    }),
  );
  const response = await fetch(`${url}/v2/models/${model}/infer`, {
    method: "POST",
    headers: { "inference-header-content-length": String(json.length) },
    body: Buffer.concat([json, ...inputs.map(({ bytes }) => bytes)]),
  });
  const body = Buffer.from(await response.arrayBuffer());
  if (response.status !== 200) throw new Error(`${response.status}: ${body.toString()}`);
  const length = Number(response.headers.get("inference-header-content-length"));
  const answer = JSON.parse(body.subarray(0, length).toString()) as {
    outputs: (TestTensor & { parameters: object })[];
  };
  let at = length;
  return answer.outputs.map(({ name, datatype, shape, parameters: own }) => {
    const start = at;
    at += (own as { binary_data_size: number }).binary_data_size;
    return { name, datatype, shape, bytes: body.subarray(start, at) };
  });
}
