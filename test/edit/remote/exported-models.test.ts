// An edit by exported models in one request, and what is refused before anything is sent.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT, expectRefusal, QUICK, qedit, workFolder } from "../../cli/qedit.js";
import { type ExportedServer, serveExported } from "../../support/exported-server.js";

const folder = workFolder();
const EDIT = ["-p", "make it winter", "--model", "tiny", "--megapixels", "0.01", "--steps", "1", "-f"];
const RUN = ["run", CAT, ...EDIT];

let server: ExportedServer;
beforeAll(async () => {
  const args = ["export", "triton", "repository", "--model", "tiny", "--device", "cpu", "--images", "1", "-q"];
  expect((await qedit(args, { cwd: folder.path })).code).toBe(0);
  server = await serveExported(folder.at("repository"));
});
afterAll(() => server.close());

test("the whole edit in one request has the bytes of one made here", async () => {
  await qedit([...RUN, ...QUICK, "-o", "here.png"], { cwd: folder.path });
  const { code, stderr } = await qedit([...RUN, "--remote", `qedit=${server.grpc}`, "-o", "there.png"], {
    cwd: folder.path,
  });
  expect(code, stderr).toBe(0);
  expect(readFileSync(folder.at("there.png")).equals(readFileSync(folder.at("here.png")))).toBe(true);
});

test("another sampler is refused before anything is sent", async () => {
  const ran = server.runs.length;
  const args = [...RUN, "--sampler", "heun", "--remote", `qedit=${server.grpc}`, "-o", "no.png"];
  const message = /Cannot use --sampler heun on the server at .*samples with euler alone/;
  expectRefusal(await qedit(args, { cwd: folder.path }), { code: 2, message, hint: /--sampler euler/ });
  expect(server.runs.length).toBe(ran);
});
