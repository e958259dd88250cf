// Malformed calls over gRPC: messages that are no protobuf, tensors that lie, metadata that is too long, and bytes that are no HTTP/2.
import { connect } from "node:net";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import type { Random } from "./requests.js";

const SERVICE = "/inference.GRPCInferenceService/";
const METHODS = [
  ...["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelInfer"],
  ...["ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "Nothing"],
];
/** Milliseconds in which a call must be answered. */
const DEADLINE = 20_000;

/** Makes malformed calls on one connection. */
export function grpcAttacker(
  address: string,
  random: Random,
): { readonly call: () => Promise<string>; readonly close: () => void } {
  const client = new Client(address, credentials.createInsecure());
  const [host, port] = address.split(":") as [string, string];
  return {
    call: () => (random() < 0.1 ? noHttp2(host, Number(port), random) : unary(client, random)),
    close: () => client.close(),
  };
}

// The name of the status, `grpc 3`.
function unary(client: Client, random: Random): Promise<string> {
  const metadata = new Metadata();
  if (random() < 0.2) metadata.set("authorization", "x".repeat(Math.floor(random() * 3000)));
  if (random() < 0.1) metadata.set("traceparent", "00-zz");
  const method = METHODS[Math.floor(random() * METHODS.length)]!;
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      `${SERVICE}${method}`,
      (message: Buffer) => message,
      (bytes: Buffer) => bytes,
      message(random),
      metadata,
      { deadline: Date.now() + DEADLINE },
      (error) => resolve(`grpc ${error?.code ?? 0}`),
    );
  });
}

function message(random: Random): Buffer {
  if (random() < 0.3)
    return Buffer.from(Array.from({ length: Math.floor(random() * 300) }, () => Math.floor(random() * 256)));
  const model = ["qedit", "encode_image", "sample", "decode", "x", ""][Math.floor(random() * 6)]!;
  const tensor = [
    text(1, ["IMAGE", "PROMPT", "latent", "SEED", "x"][Math.floor(random() * 5)]!),
    text(2, ["BYTES", "FP32", "INT64", "BF16", "??"][Math.floor(random() * 5)]!),
    // A packed shape, with lengths that nothing holds.
    bytes(3, Buffer.concat([varint(1), varint(2 ** Math.floor(random() * 50))])),
  ];
  const parts = [text(1, model), bytes(5, Buffer.concat(tensor))];
  if (random() < 0.7) parts.push(bytes(7, Buffer.alloc(Math.floor(random() * 64), Math.floor(random() * 256))));
  if (random() < 0.3)
    parts.push(
      bytes(4, Buffer.concat([text(1, "megapixels"), bytes(2, Buffer.from([0x21, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f]))])),
    );
  const whole = Buffer.concat(parts);
  if (random() < 0.2) return whole.subarray(0, Math.floor(random() * whole.length));
  if (random() < 0.3 && whole.length > 0) whole[Math.floor(random() * whole.length)] = Math.floor(random() * 256);
  return whole;
}

// Fields of protobuf, https://protobuf.dev/programming-guides/encoding
function bytes(field: number, content: Buffer): Buffer {
  return Buffer.concat([varint(field * 8 + 2), varint(content.length), content]);
}

function text(field: number, content: string): Buffer {
  return bytes(field, Buffer.from(content));
}

function varint(value: number): Buffer {
  const digits: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) digits.push((rest % 128) + 128);
  return Buffer.from([...digits, rest]);
}

function noHttp2(host: string, port: number, random: Random): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    // No call waits: a connection without one may stay open for a while.
    const timer = setTimeout(() => end("idle"), 1000);
    const end = (result: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    socket.on("connect", () => {
      if (random() < 0.5) socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
      socket.end(Buffer.from(Array.from({ length: Math.floor(random() * 500) }, () => Math.floor(random() * 256))));
    });
    socket.resume();
    socket.on("close", () => end("closed"));
    socket.on("error", () => end("closed"));
  });
}
