// An edit by exported models in one request, and what is refused before anything is sent.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT, expectRefusal, QUICK, qedit, ROCKET, workFolder } from "../../cli/qedit.js";
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

test.each<[string, readonly string[], RegExp, number?]>([
  ["another sampler", ["--sampler", "heun"], /Cannot use --sampler heun on the server at .*samples with euler alone/],
  ["more pictures", [ROCKET], /Cannot edit 2 pictures on the server at .*exported for up to 1/],
  ["other weights", ["--model", "qwen-image-edit-2509"], /has other weights: wanted .*, found tiny_/, 3],
])("refused before anything is sent: %s", async (_, options, message, code = 2) => {
  const ran = server.runs.length;
  const args = ["run", CAT, ...options.filter((each) => each === ROCKET), ...EDIT];
  const own = options.filter((each) => each !== ROCKET);
  const ended = await qedit([...args, ...own, "--remote", `qedit=${server.grpc}`, "-o", "no.png"], {
    cwd: folder.path,
  });
  expectRefusal(ended, { code, message, hint: /\S/ });
  expect(server.runs.length).toBe(ran);
});
