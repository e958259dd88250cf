// A server of KServe V2 over an exported folder: the binary extension over HTTP, ensembles run by the interpreter. It stands for Triton.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { parseDevice } from "../../src/engine/providers.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { runEnsemble } from "../../src/export/triton/ensemble-interpreter.js";
import { parseConfig } from "../../src/export/triton/model-config.js";
import type { Tensor, TensorType } from "../../src/std/tensor.js";

const TYPES = {
  FP32: ["float32", Float32Array],
  INT64: ["int64", BigInt64Array],
  UINT8: ["uint8", Uint8Array],
} as const;
const HEADER = "inference-header-content-length";

interface Header {
  readonly inputs: readonly {
    readonly name: string;
    readonly datatype: keyof typeof TYPES;
    readonly shape: readonly number[];
    readonly parameters: { readonly binary_data_size: number };
  }[];
}

/** A running server. */
export interface ExportedServer {
  readonly url: string;
  readonly close: () => Promise<void>;
}

/** Serves an exported folder on a free port of this machine. */
export async function serveExported(folder: string): Promise<ExportedServer> {
  const engine = pairedEngine(parseDevice("cpu", 1));
  const signal = new AbortController().signal;
  const server = createServer(async (request, response) => {
    try {
      const [, name] = /^\/v2\/models\/(\w+)\/infer$/.exec(request.url ?? "")!;
      const tensors = tensorsOf(await buffer(request), Number(request.headers[HEADER]));
      const config = parseConfig(readFileSync(join(folder, name!, "config.pbtxt"), "utf8"));
      const results = await runEnsemble(name!, tensors, { folder, engine, signal });
      const outputs = config.output.map(({ name: output, data_type: type }) => {
        const { shape, data } = results[output]!;
        return { name: output, datatype: type.slice("TYPE_".length), shape, data };
      });
      const header = Buffer.from(JSON.stringify({ outputs: outputs.map(({ data: _, ...output }) => output) }));
      const bodies = outputs.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
      response.writeHead(200, { [HEADER]: header.length }).end(Buffer.concat([header, ...bodies]));
    } catch (error) {
      response.writeHead(400).end(JSON.stringify({ error: String(error) }));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      server.close();
      await engine.dispose();
    },
  };
}

function tensorsOf(body: Buffer, length: number): Record<string, Tensor> {
  const { inputs } = JSON.parse(body.subarray(0, length).toString()) as Header;
  let at = length;
  return Object.fromEntries(
    inputs.map(({ name, datatype, shape, parameters }) => {
      const [type, Elements] = TYPES[datatype];
      // Aligned, as typed arrays want it.
      const bytes = Uint8Array.from(body.subarray(at, (at += parameters.binary_data_size)));
      return [name, { type: type as TensorType, shape, data: new Elements(bytes.buffer) }];
    }),
  );
}
