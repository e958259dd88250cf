// Malformed HTTP requests: what a client may get wrong, and what an attacker would try. Each is a whole request, as bytes on a socket, or parts of
// one with pauses.
import { randomBytes } from "node:crypto";

/** A source of chance: the same for the same seed. */
export type Random = () => number;

/** Bytes to write, in pieces. */
export type RawRequest = readonly (string | Buffer)[];

const PATHS = [
  "/v1/jobs",
  "/v1/images/edits",
  "/v2/models/qedit/infer",
  "/v2/models/encode_image/infer",
  "/v2/models/sample/infer",
  "/v1/models",
  "/",
];
const METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "FOO", "POST"];

/** One of a list. */
function oneOf<T>(random: Random, list: readonly T[]): T {
  return list[Math.floor(random() * list.length)]!;
}

/** Makes a malformed request of any kind. */
export function malformed(random: Random, pictures: readonly Buffer[]): RawRequest {
  const makers = [
    headers,
    json,
    jsonDeep,
    multipart,
    multipartBroken,
    damagedPicture,
    bomb,
    lyingLength,
    binaryLengths,
    paths,
    tensors,
  ];
  return oneOf(random, makers)(random, pictures);
}

function post(path: string, type: string, body: Buffer | string, extra: readonly string[] = []): RawRequest {
  const bytes = Buffer.from(body);
  const lines = [
    `POST ${path} HTTP/1.1`,
    "Host: localhost",
    `Content-Type: ${type}`,
    `Content-Length: ${bytes.length}`,
    "Connection: close",
    ...extra,
  ];
  return [`${lines.join("\r\n")}\r\n\r\n`, bytes];
}

function headers(random: Random): RawRequest {
  const odd = [
    `Host: ${"a".repeat(Math.floor(random() * 40_000))}`,
    "Host: localhost\r\nHost: evil",
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Type: multipart/form-data",
    "Content-Type: multipart/form-data; boundary=",
    `X-Request-Id: ${randomBytes(20)
      .toString("latin1")
      .replace(/[\r\n]/g, "")}`,
    `Idempotency-Key: ${"k".repeat(Math.floor(random() * 1000))}`,
    "Authorization: Bearer",
    "Inference-Header-Content-Length: 99999999",
    "Expect: 100-continue",
    "Range: bytes=0-,1-,2-",
    "traceparent: 00-zz",
    "Cookie: a=b\0c",
    "If-None-Match: *",
  ];
  return [
    `${oneOf(random, METHODS)} ${oneOf(random, PATHS)} HTTP/1.1\r\nHost: localhost\r\n${oneOf(random, odd)}\r\nConnection: close\r\n\r\n`,
  ];
}

const VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  "",
  "0",
  "\u0000",
  "../../etc/passwd",
  "x".repeat(70_000),
  [],
  [[]],
  {},
  { toString: 1 },
  "__proto__",
  "NaN",
  "-0",
  "1e9999",
  9007199254740993,
  "\ud800",
];
const KEYS = [
  "images",
  "image",
  "prompt",
  "mask",
  "steps",
  "seed",
  "size",
  "megapixels",
  "model",
  "lora",
  "cfg",
  "n",
  "stream",
  "partial_images",
  "quality",
  "output_format",
  "output_compression",
  "inputs",
  "outputs",
  "parameters",
  "id",
  "__proto__",
  "constructor",
  "previews",
  "force",
  "format",
  "match",
  "tile",
  "sampler",
];

function json(random: Random): RawRequest {
  const body: Record<string, unknown> = { prompt: "x", images: [{ name: "x.png", data: "AAAA" }] };
  for (let index = 0; index < 1 + random() * 4; index += 1) body[oneOf(random, KEYS)] = oneOf(random, VALUES);
  let text = JSON.stringify(body);
  if (random() < 0.3) text = text.slice(0, Math.floor(random() * text.length));
  if (random() < 0.1) text = `\ufeff${text}`;
  const bytes = Buffer.from(text);
  if (random() < 0.2 && bytes.length > 0) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
  return post(oneOf(random, PATHS), "application/json", bytes);
}

function jsonDeep(random: Random): RawRequest {
  const depth = Math.floor(random() * 100_000);
  const open = random() < 0.5 ? "[" : '{"a":';
  return post(oneOf(random, PATHS), "application/json", `{"prompt":${open.repeat(depth)}`);
}

function part(name: string, content: Buffer | string, file?: string): Buffer {
  const disposition = `Content-Disposition: form-data; name="${name}"${file === undefined ? "" : `; filename="${file}"`}`;
  return Buffer.concat([Buffer.from(`--B\r\n${disposition}\r\n\r\n`), Buffer.from(content), Buffer.from("\r\n")]);
}

function multipart(random: Random, pictures: readonly Buffer[]): RawRequest {
  const parts: Buffer[] = [];
  if (random() < 0.8)
    parts.push(
      part(
        "image",
        oneOf(random, pictures),
        oneOf(random, ["x.png", "../../x", "\0", "a".repeat(5000), "con", '";x=']),
      ),
    );
  for (let index = 0; index < random() * 5; index += 1)
    parts.push(part(oneOf(random, KEYS), JSON.stringify(oneOf(random, VALUES))));
  if (random() < 0.05) for (let index = 0; index < 600; index += 1) parts.push(part("x", ""));
  // Without a prompt nothing is computed.
  const body = Buffer.concat([...parts, part("prompt", ""), Buffer.from("--B--\r\n")]);
  return post(oneOf(random, PATHS), "multipart/form-data; boundary=B", body);
}

function multipartBroken(random: Random, pictures: readonly Buffer[]): RawRequest {
  const whole = Buffer.concat([
    part("image", oneOf(random, pictures), "x.png"),
    part("prompt", ""),
    Buffer.from("--B--\r\n"),
  ]);
  const bytes = Buffer.from(whole.subarray(0, Math.floor(random() * whole.length)));
  for (let index = 0; index < 10 && bytes.length > 0; index += 1)
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
  return post(
    oneOf(random, PATHS),
    `multipart/form-data; boundary=${oneOf(random, ["B", '"B"', "b", "\u00ff", "B".repeat(2000), "--"])}`,
    bytes,
  );
}

function damagedPicture(random: Random, pictures: readonly Buffer[]): RawRequest {
  const bytes = Buffer.from(oneOf(random, pictures));
  for (let index = 0; index < 1 + random() * 20; index += 1)
    bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
  // The unknown sampler is refused after the pictures were read, if they can be.
  return post(
    "/v1/jobs",
    "multipart/form-data; boundary=B",
    Buffer.concat([
      part("image", bytes, "x.png"),
      part("prompt", "x"),
      part("megapixels", "1000"),
      Buffer.from("--B--\r\n"),
    ]),
  );
}

// A PNG whose header says that it is large, and little more.
function bomb(random: Random): RawRequest {
  const side = oneOf(random, [30_000, 65_535, 2 ** 31 - 1, 100_000]);
  const header = Buffer.alloc(33);
  header.write("\x89PNG\r\n\x1a\n", 0, "latin1");
  header.writeUInt32BE(13, 8);
  header.write("IHDR", 12, "latin1");
  header.writeUInt32BE(side, 16);
  header.writeUInt32BE(side, 20);
  header.set([8, 6, 0, 0, 0], 24);
  return post(
    "/v1/jobs",
    "multipart/form-data; boundary=B",
    Buffer.concat([part("image", header, "x.png"), part("prompt", "x"), Buffer.from("--B--\r\n")]),
  );
}

function lyingLength(random: Random): RawRequest {
  const said = oneOf(random, [10, 1_000_000, 300_000_000, 5_000_000_000]);
  return [
    `POST ${oneOf(random, PATHS)} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${said}\r\nConnection: close\r\n\r\n`,
    "{}",
  ];
}

// The binary extension of KServe V2: lengths that do not fit.
function binaryLengths(random: Random): RawRequest {
  const size = oneOf(random, [-1, 0, 4, 1e9, 2 ** 53, 3]);
  const shape = oneOf(random, [[1], [-1], [1e9, 1e9], [0], [2, 2], "x", [1.5], []]);
  const text = JSON.stringify({
    inputs: [
      {
        name: oneOf(random, ["IMAGE", "PROMPT", "image", "x"]),
        shape,
        datatype: oneOf(random, ["BYTES", "FP32", "BF16", "X", "FP16", "INT64"]),
        parameters: { binary_data_size: size },
      },
    ],
  });
  const length = oneOf(random, [text.length, 0, text.length + 5, -1, 1e12]);
  return post(oneOf(random, PATHS.slice(2, 5)), "application/octet-stream", `${text}${"\x01\x00\x00\x00"}`, [
    `Inference-Header-Content-Length: ${length}`,
  ]);
}

function tensors(random: Random): RawRequest {
  const data = oneOf<unknown>(random, [[1, 2, 3], ["x"], [[1], [2, 3]], [null], "x", [1e400], ["\ud800"], [{ a: 1 }]]);
  const inputs = [
    {
      name: oneOf(random, ["IMAGE", "PROMPT", "SEED", "latents"]),
      shape: oneOf(random, [[1], [3], [1, 1, 3], [2 ** 31]]),
      datatype: oneOf(random, ["BYTES", "FP32", "BF16", "INT64", "BOOL"]),
      data,
    },
  ];
  return post(
    oneOf(random, PATHS.slice(2, 5)),
    "application/json",
    JSON.stringify({ inputs, outputs: oneOf<unknown>(random, [undefined, [], [{ name: "x" }], "x"]) }),
  );
}

function paths(random: Random): RawRequest {
  const odd = [
    "/v1/jobs/../../etc/passwd",
    "/v1/jobs/%00",
    "/v1/jobs/%ff%fe/content",
    `/v1/jobs/${"a".repeat(10_000)}`,
    "//evil.example/",
    "/v1/jobs/%2e%2e%2f/content",
    "/v1/jobs/x/inputs/-1",
    "/v1/jobs/x/inputs/1e9",
    "/page/../../../package.json",
    "/page/%2e%2e%2fserve.js",
    "/v2/models/../../x/infer",
    "/v1/jobs?limit=-1",
    "/v1/jobs?limit[]=1",
    "/docs?%",
    "/%",
    "*",
    "http://evil.example/v1/jobs",
  ];
  return [`${oneOf(random, METHODS)} ${oneOf(random, odd)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`];
}
