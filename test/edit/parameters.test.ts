// One table of parameters, read from flags, variables, settings files and job lines.
import { describe, expect, test } from "vitest";
import { readJobs } from "../../src/cli/jobs/job-lines.js";
import { jobSchema } from "../../src/cli/jobs/job-schema.js";
import { workerOptions } from "../../src/cli/settings/kafka-options.js";
import {
  environmentName,
  fileName,
  jsonName,
  type Parameter,
  readTexts,
  readValue,
} from "../../src/edit/parameters/parameter.js";
import { EDIT_PARAMETERS } from "../../src/edit/parameters/table.js";
import { QeditError } from "../../src/std/errors.js";

const { steps, keepSize, lora } = EDIT_PARAMETERS;
const parameterOf = (key: keyof typeof EDIT_PARAMETERS) => EDIT_PARAMETERS[key] as Parameter<unknown>;

test("a parameter has one name, written as each place writes names", () => {
  expect([jsonName, fileName, environmentName].map((write) => write("negativePrompt"))).toEqual([
    "negative_prompt",
    "negative-prompt",
    "QEDIT_NEGATIVE_PROMPT",
  ]);
});

describe("a value", () => {
  test.each([
    ["steps", 8, 8],
    ["steps", "8", 8],
    ["cfg", 2.5, 2.5],
    ["seed", 7, 7n],
    ["seed", "18446744073709551615", 2n ** 64n - 1n],
    ["seed", "random", -1n],
    ["size", "640x480", { width: 640, height: 480 }],
    ["size", { width: 640, height: 480 }, { width: 640, height: 480 }],
    ["keepSize", true, true],
    ["stepCache", 0.1, 0.1],
    ["stepCache", "0.1", 0.1],
    ["stepCache", 0, 0],
    ["stepCache", true, 0.05],
    ["stepCache", "on", 0.05],
    ["stepCache", false, undefined],
    ["stepCache", "off", undefined],
    ["lora", "a.safetensors", ["a.safetensors"]],
    ["lora", ["a", "b"], ["a", "b"]],
  ] as const)("of JSON for %s is read (%#)", (key, value, wanted) => {
    expect(readValue(key, parameterOf(key), value)).toEqual(wanted);
  });

  test.each([
    ["steps", 0],
    ["steps", 1.5],
    ["steps", null],
    ["steps", [4]],
    ["steps", "four"],
    ["stepCache", 1],
    ["stepCache", -0.1],
    ["stepCache", ""],
    ["stepCache", "much"],
    ["stepCache", null],
    ["cfg", Number.POSITIVE_INFINITY],
    ["seed", 2 ** 60],
    ["seed", -1],
    ["seed", "18446744073709551616"],
    ["size", "640"],
    ["size", { width: 640 }],
    ["size", { width: 640, height: 480, depth: 3 }],
    ["keepSize", "yes"],
    ["sampler", "eluer"],
    ["lora", [1]],
  ] as const)("of JSON that cannot be used for %s: %j", (key, value) => {
    expect(() => readValue(key, parameterOf(key), value)).toThrow(
      expect.objectContaining({ code: "QEDIT_E_USAGE", parameter: jsonName(key) }),
    );
  });

  test("of a flag is its last text, of a list all of them, and a switch may be written out", () => {
    expect(readTexts("steps", steps, ["4", "8"])).toBe(8);
    expect(readTexts("lora", lora, ["a", "b"])).toEqual(["a", "b"]);
    expect([readTexts("keepSize", keepSize, ["no"]), readTexts("keepSize", keepSize, ["on"])]).toEqual([false, true]);
  });

  test("of some words is a list of them in their order, each once", () => {
    const { stages } = workerOptions;
    expect(readTexts("stages", stages, ["sample, decode"])).toEqual(["sample", "decode"]);
    for (const written of ["", "sample,", "sample,sample", "upscale", "toString"])
      expect(() => readTexts("stages", stages, [written])).toThrow(/one or more of run, encode-image/);
  });
});

describe("a job's line", () => {
  const given = async (line: object) => {
    const [job] = await readJobs(JSON.stringify({ images: ["a.jpg"], ...line }), "/jobs");
    if (job!.fault) throw job!.fault;
    return Object.fromEntries([...job!.given].map(([name, { value }]) => [name, value]));
  };

  test("takes names with underscores and with dashes", async () => {
    expect(await given({ negative_prompt: "dark", "cfg-norm": 0.5 })).toEqual({ negativePrompt: "dark", cfgNorm: 0.5 });
  });

  test.each([
    [{ "cfg-norm": 1, cfg_norm: 1 }, /is given twice, under two names/],
    [{ negativePrompt: "x" }, /"negativePrompt" is no parameter of run/],
    [{ device: "cpu" }, /"device" holds for the whole batch/],
    [JSON.parse('{"__proto__": 1}') as object, /"__proto__" is no parameter of run/],
  ])("refuses %j", async (line, message) => {
    await expect(
      readJobs(JSON.stringify({ images: ["a.jpg"] }).replace("}", `,${JSON.stringify(line).slice(1)}`), "/jobs").then(
        ([job]) => Promise.reject(job!.fault),
      ),
    ).rejects.toThrow(message);
  });

  test("is described by a schema with every key that it takes, and no other", async () => {
    const { properties, required, additionalProperties } = jobSchema() as {
      properties: Record<string, { description: string }>;
      required: string[];
      additionalProperties: boolean;
    };
    expect([required, additionalProperties]).toEqual([["images"], false]);
    expect(Object.values(properties).every(({ description }) => description.length > 0)).toBe(true);
    for (const key of Object.keys(EDIT_PARAMETERS)) {
      expect(properties).toHaveProperty([jsonName(key)]);
      expect(properties).toHaveProperty([fileName(key)]);
    }
    expect(properties["sampler"]).toMatchObject({
      enum: expect.arrayContaining(["euler", "res_multistep"]) as string[],
    });
    // Every key of the schema is read; what is wrong with a null is its value.
    for (const key of Object.keys(properties).filter((name) => name !== "images")) {
      const failure = await given({ [key]: null }).catch((error: unknown) => error);
      expect(failure, key).toBeInstanceOf(QeditError);
      expect((failure as QeditError).message, key).toMatch(/Cannot use null/);
    }
  });
});
