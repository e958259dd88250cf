import { describe, expect, test } from "vitest";
import { defaulted, readTexts, readValue } from "../../../src/edit/parameters/parameter.js";
import { remoteServers, stagesElsewhere } from "../../../src/edit/remote/remote-servers.js";

const parameter = defaulted(remoteServers, {}, { summary: "", group: "Device" });
const [A, B] = ["grpc://a:8001", "http://b:8000"];

describe("servers of stages are read", () => {
  test.each([
    [[`sample=${A}`], { sample: [A] }],
    [[`sample=${A},${B}`], { sample: [A, B] }],
    [[`encode_image=${A},sample=${B}`, `decode=${A}`], { "encode-image": [A], sample: [B], decode: [A] }],
    [[`sample=${A}`, `sample=${B}`], { sample: [A, B] }],
    [[`sample=${A},${A}`], { sample: [A] }],
    [[" sample = grpc://a:8001"], undefined],
    [[`qedit=${A}`], { qedit: [A] }],
  ])("from the texts of flags: %j", (texts, wanted) => {
    const read = () => readTexts("remote", parameter, texts);
    if (wanted === undefined) expect(read).toThrow(/STAGE=ADDRESS/);
    else expect(read()).toEqual(wanted);
  });

  test.each([
    [{ sample: A }, { sample: [A] }],
    [
      { encode_prompt: [A, B], "encode-image": `${A},${B}` },
      { "encode-prompt": [A, B], "encode-image": [A, B] },
    ],
    [{}, {}],
  ])("from JSON: %j", (json, wanted) => {
    expect(readValue("remote", parameter, json)).toEqual(wanted);
  });

  test.each([
    [[A]],
    [["sample="]],
    [[""]],
    [["resize=grpc://a:1"]],
    [["sample=a:8001"]],
    [[`qedit=${A},sample=${A}`]],
    [{ sample: [] }],
    [{ sample: 5 }],
    [{ sample: [A, 5] }],
    [{ toString: A }],
    [null],
    [7],
  ])("%j is refused", (value) => {
    expect(() => readValue("remote", parameter, value)).toThrow(/Cannot use/);
  });
});

test("the whole edit elsewhere is every stage elsewhere", () => {
  expect([...stagesElsewhere({ qedit: [A] })]).toEqual(["encode-image", "encode-prompt", "sample", "decode"]);
  expect([...stagesElsewhere({ sample: [A] })]).toEqual(["sample"]);
});
