import { expect, test } from "vitest";
import { parseV2Address } from "../../../src/kserve/client/v2-address.js";

test.each([
  ["grpc://gpu-host:8001", "grpc", false, "gpu-host:8001"],
  ["GRPC://gpu-host:8001/", "grpc", false, "gpu-host:8001"],
  ["grpcs://gpu.example.org:443", "grpc", true, "gpu.example.org:443"],
  ["grpc://[::1]:8001", "grpc", false, "[::1]:8001"],
  ["http://gpu-host:8000", "http", false, "http://gpu-host:8000"],
  ["https://gpu.example.org/stages/", "http", true, "https://gpu.example.org/stages"],
])("%s is an address", (written, protocol, isSecure, target) => {
  expect(parseV2Address(written)).toMatchObject({ protocol, isSecure, target });
});

test.each([
  "gpu-host:8001",
  "grpc://gpu-host",
  "grpc://gpu-host:8001/path",
  "grpc://gpu-host:99999",
  "grpc://:8001",
  "grpc://user:key@gpu-host:8001",
  "http://user:key@gpu-host:8000",
  "http://gpu-host:8000/?a=b",
  "http://",
  "unix:/run/qedit.sock",
  "file:///etc/passwd",
  "grpc://gpu host:8001",
  "",
])("%j is no address", (written) => {
  expect(parseV2Address(written)).toBeUndefined();
});
