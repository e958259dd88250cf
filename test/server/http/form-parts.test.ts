// What parts of forms say together: the order of pictures, and what stands once. What cannot be meant is refused by name, by both routes that take forms.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ofForm } from "../../../src/server/http/openai/edit-body.js";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { startServer, type TestServer } from "../../support/server.js";
import { endOf, sendJob } from "../jobs.js";

const folder = temporaryFolder();
const FIELDS: readonly Part[] = [
  ["prompt", "make it black and white"],
  ["megapixels", "0.005"],
  ["steps", "2"],
];
const ROUTES = ["/v1/jobs", "/v1/images/edits"];

/** The name of a part, and its text or the path of its file. */
type Part = readonly [name: string, value: string];

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.path });
});
afterAll(() => server.stop("SIGKILL"));

function formOf(parts: readonly Part[]): FormData {
  const form = new FormData();
  // Noise levels are given in place of steps.
  const fields = parts.some(([name]) => name.startsWith("sigmas")) ? FIELDS.slice(0, 2) : FIELDS;
  for (const [name, value] of [...parts, ...fields]) {
    if (value === CAT || value === ROCKET) form.append(name, new Blob([readFileSync(value)]), "photo.jpg");
    else form.append(name, value);
  }
  return form;
}

async function refusalOf(path: string, parts: readonly Part[]) {
  const response = await fetch(`${server.url}${path}`, { method: "POST", body: formOf(parts) });
  const { error } = (await response.json()) as { error?: { param: string; message: string } };
  return { status: response.status, param: error?.param, message: error?.message };
}

describe("pictures", () => {
  test("of a job that have numbers stand in their order", async () => {
    const form = formOf([
      ["image[1]", CAT],
      ["image[0]", ROCKET],
    ]);
    const { id } = await sendJob(server.url, form);
    for (const [index, path] of [ROCKET, CAT].entries()) {
      const sent = await fetch(`${server.url}/v1/jobs/${id}/inputs/${index + 1}`);
      expect(Buffer.from(await sent.arrayBuffer()).equals(readFileSync(path))).toBe(true);
    }
  });

  test("of OpenAI's form that have numbers stand in their order, files and data URLs", async () => {
    const file = { name: "second.png", bytes: new Uint8Array([2]) };
    const parts = [
      { name: "image[1]", value: file },
      { name: "image[2]", value: "data:image/png;base64,Aw==" },
      { name: "url[0]", value: "data:image/png;base64,AQ==" },
    ];
    const { pictures } = await ofForm(parts).read(() => Promise.reject(new Error("no URL of another machine")));
    expect(pictures.map(({ bytes }) => bytes[0])).toEqual([1, 2, 3]);
  });

  test.each<[string, readonly Part[], string]>([
    [
      "a gap",
      [
        ["image[0]", CAT],
        ["image[2]", ROCKET],
      ],
      "image[2]",
    ],
    [
      "a number twice",
      [
        ["image[0]", CAT],
        ["image[0]", ROCKET],
      ],
      "image[0]",
    ],
    ["a first number that is not 0", [["image[1]", CAT]], "image[1]"],
    [
      "a name without a number among numbers",
      [
        ["image[0]", CAT],
        ["image", ROCKET],
      ],
      "image",
    ],
  ])("with %s are refused by name", async (_, parts, param) => {
    for (const path of ROUTES) {
      const refusal = await refusalOf(path, parts);
      expect(refusal).toMatchObject({ status: 400, param });
      expect(refusal.message).toContain(`Cannot use "${param}": `);
    }
  });
});

describe("what counts once is refused where it is given twice:", () => {
  test("a mask", async () => {
    const parts: readonly Part[] = [
      ["image", CAT],
      ["mask", CAT],
      ["mask", ROCKET],
    ];
    for (const path of ROUTES)
      expect(await refusalOf(path, parts)).toEqual({
        status: 400,
        param: "mask",
        message: 'Cannot use "mask": it is given twice',
      });
  });

  test.each<[string, readonly Part[], string]>([
    [
      "a mask by both names",
      [
        ["mask", CAT],
        ["mask_image", CAT],
      ],
      "mask_image",
    ],
    [
      "a strength",
      [
        ["lora[x]", "1"],
        ["lora[x]", "0.5"],
      ],
      "lora[x]",
    ],
    [
      "a list of LoRAs beside strengths",
      [
        ["lora", "x"],
        ["lora[y]", "0.5"],
      ],
      "lora",
    ],
  ])("%s", async (_, parts, param) => {
    expect(await refusalOf("/v1/images/edits", [["image", CAT], ...parts])).toMatchObject({ status: 400, param });
  });
});

describe("noise levels", () => {
  test.each(["sigmas[]", "sigmas"])("are a list of %s", async (name) => {
    const parts: readonly Part[] = [
      ["image", CAT],
      [name, "1"],
      [name, "0.5"],
    ];
    const { id } = await sendJob(server.url, formOf(parts));
    expect((await endOf(server.url, id)).result).toMatchObject({
      recipe: { settings: { sample: { sigmas: [1, 0.5, 0] } } },
    });
    expect((await refusalOf("/v1/images/edits", parts)).status).toBe(200);
  });

  test("of a list that is none are refused by name", async () => {
    const parts: readonly Part[] = [
      ["image", CAT],
      ["sigmas[]", "0.5"],
      ["sigmas[]", "1"],
    ];
    for (const path of ROUTES) expect(await refusalOf(path, parts)).toMatchObject({ status: 400, param: "sigmas" });
  });
});

test("an empty mask without a name is refused as the mask", async () => {
  const part = (disposition: string, content: string | Buffer) =>
    Buffer.concat([
      Buffer.from(`--x\r\nContent-Disposition: form-data; ${disposition}\r\n\r\n`),
      Buffer.from(content as string),
      Buffer.from("\r\n"),
    ]);
  const body = Buffer.concat([
    part('name="image"; filename="cat.jpg"', readFileSync(CAT)),
    part('name="mask"; filename=""', ""),
    ...[...FIELDS, ["paste_back", "true"]].map(([name, value]) => part(`name="${name}"`, value!)),
    Buffer.from("--x--\r\n"),
  ]);
  const headers = { "content-type": "multipart/form-data; boundary=x" };
  for (const path of ROUTES) {
    const response = await fetch(`${server.url}${path}`, { method: "POST", body, headers });
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { error: { message: "Cannot read mask: the file is empty" } },
    ]);
  }
});

describe("previews of a job", () => {
  test("are taken as every switch of a form", async () => {
    const { id } = await sendJob(
      server.url,
      formOf([
        ["image", CAT],
        ["previews", "True"],
        ["seed", "7"],
      ]),
    );
    expect(await (await fetch(`${server.url}/v1/jobs/${id}/events`)).text()).toContain("event: preview");
  });

  test.each<[string, readonly Part[]]>([
    ["no switch", [["previews", "banana"]]],
    [
      "given twice",
      [
        ["previews", "true"],
        ["previews", "false"],
      ],
    ],
  ])("that are %s are refused", async (_, parts) => {
    expect(await refusalOf("/v1/jobs", [["image", CAT], ...parts])).toMatchObject({ status: 400, param: "previews" });
  });
});
