// Stages and whole edits by exported models, as Triton serves them: the bytes of an edit that is made here.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ExportedServer, serveExported } from "../support/exported-server.js";
import { CAT, type Ended, QUICK, qedit, workFolder } from "./qedit.js";

const folder = workFolder();
const MODEL = ["--model", "tiny"];
const SMALL = ["--megapixels", "0.02", "--steps", "2", "--seed", "3", "-f"];
const RUN = ["run", CAT, "-p", "make it winter", ...MODEL, ...SMALL];
const ALL = ["encode-image", "encode-prompt", "sample", "decode"];

let server: ExportedServer;

async function succeeded(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const ended = await qedit(args, { cwd: folder.path, env });
  expect(ended.code, ended.stderr).toBe(0);
  return ended;
}

/** The bytes of an edit made here, and by servers. */
async function expectSame(args: readonly string[], remote: string): Promise<Ended> {
  await succeeded([...args, ...QUICK, "-o", "here.png"]);
  const computes = remote.startsWith("qedit=") || ALL.every((stage) => remote.includes(`${stage}=`)) ? [] : QUICK;
  const ended = await succeeded([...args, ...computes, "--remote", remote, "-v", "-o", "there.png"]);
  expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png"))), remote).toBe(true);
  return ended;
}

beforeAll(async () => {
  await succeeded(["export", "triton", "repository", ...MODEL, "--device", "cpu", "--cfg", "-q"]);
  server = await serveExported(folder.at("repository"));
});
afterAll(() => server.close());

describe("the bytes are those of an edit made here", () => {
  test.each(ALL)("with %s on exported models, whose files are known", async (stage) => {
    const { stderr } = await expectSame(RUN, `${stage}=${server.grpc}`);
    expect(stderr).not.toContain("warning");
  });

  test("with all stages, over gRPC and HTTP, and nothing computed here", async () => {
    const { stderr } = await expectSame(
      RUN,
      ALL.map((stage, at) => `${stage}=${at % 2 ? server.grpc : server.url}`).join(","),
    );
    expect(stderr).not.toMatch(/vae:|textEncoder:|transformer:|computing on|warning/);
  });

  test.each(["grpc", "url"] as const)("with the whole edit in one request by %s", async (door) => {
    const before = server.runs.length;
    await expectSame(RUN, `qedit=${server[door]}`);
    expect(server.runs.slice(before)).toEqual(["qedit_1"]);
  });
});
