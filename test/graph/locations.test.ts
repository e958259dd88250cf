// Absolute paths of every platform, cut into the root that ONNX Runtime is given and the location below it.

import { describe, expect, test } from "vitest";
import { Graph } from "../../src/graph/graph.js";
import { locationOf, rootOf, weightsRoot } from "../../src/graph/locations.js";

describe("an absolute path", () => {
  test.each([
    ["/models/vae x.safetensors", "/", "models/vae x.safetensors"],
    ["/odd\\name", "/", "odd\\name"],
    ["C:\\Users\\Ä\\vae.safetensors", "C:\\", "Users/Ä/vae.safetensors"],
    ["d:/models/vae.safetensors", "d:/", "models/vae.safetensors"],
    ["\\\\server\\share\\models\\vae.safetensors", "\\\\server\\share\\", "models/vae.safetensors"],
  ])("%s has its root and its location", (path, root, location) => {
    expect([rootOf(path), locationOf(path)]).toEqual([root, location]);
  });

  test("is wanted: anything else is a mistake of ours", () => {
    expect(() => rootOf("models/vae.safetensors")).toThrow(/^internal/);
  });
});

describe("the weights of a graph", () => {
  const graphOf = (...files: string[]) => {
    const graph = new Graph("the transformer");
    files.forEach((file, index) =>
      graph.external(`w${index}`, { dtype: "f32", shape: [2], file, offset: 0, length: 8 }),
    );
    return graph;
  };

  test("share one root", () => {
    expect(weightsRoot(graphOf())).toBe("/");
    expect(weightsRoot(graphOf("C:\\a\\x", "C:\\b\\y"))).toBe("C:\\");
  });

  test("on two drives are refused", () => {
    expect(() => weightsRoot(graphOf("C:\\a\\x", "D:\\b\\y"))).toThrow(
      "Cannot run the transformer: its weights lie on several drives, C:\\ and D:\\",
    );
  });
});
