// Clients in Python against a real server: OpenAI's package, and schemathesis, which tries the whole of /openapi.json.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CAT } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { pythonWith } from "../../support/python.js";
import { startServer, type TestServer } from "../../support/server.js";
import { ran } from "../ran.js";

const run = promisify(execFile);
const folder = temporaryFolder();
const python = await pythonWith(["openai==3.57.0", "schemathesis==4.32.5"]);
if ("missing" in python) console.warn(`not run, for want of Python packages: ${python.missing}`);
const bin = "bin" in python ? python.bin : "";

let server: TestServer;
beforeAll(async () => {
  server = await startServer({
    folder: folder.path,
    args: ["--metrics", "--max-steps", "8", "--max-megapixels", "0.1"],
  });
});
afterAll(() => server.stop("SIGKILL"));

const EDIT = `
import base64, sys
from openai import OpenAI, NotFoundError
client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none")
answer = client.images.edit(image=[open(sys.argv[2], "rb")], prompt="make it black and white", model="tiny", extra_body={"seed": 7, "megapixels": 0.02, "num_inference_steps": 2})
open(sys.argv[3], "wb").write(base64.b64decode(answer.data[0].b64_json))
kinds = [event.type for event in client.images.edit(image=open(sys.argv[2], "rb"), prompt="make it winter", stream=True, partial_images=1, extra_body={"seed": 3, "megapixels": 0.02, "steps": 4})]
assert kinds == ["image_edit.partial_image", "image_edit.completed"], kinds
try:
    client.images.edit(image=open(sys.argv[2], "rb"), prompt="x", model="nobody")
    raise SystemExit("an unknown model was taken")
except NotFoundError as error:
    assert error.code == "model_not_found" and error.param == "model", error
`;

test.skipIf("missing" in python)("OpenAI's package edits, streams and understands errors", async () => {
  const [script, made] = [folder.write("edit.py", EDIT), folder.at("made.png")];
  await run(`${bin}/python`, [script, server.url, CAT, made]);
  const fields = { prompt: "make it black and white", seed: "7", megapixels: "0.02", steps: "2" };
  expect(readFileSync(made).equals(await ran([CAT], fields, folder))).toBe(true);
});

test.skipIf("missing" in python)(
  "schemathesis meets no 5xx, and no status, type or body that is not described",
  async () => {
    const checks =
      "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance,unsupported_method";
    const args = ["run", `${server.url}/openapi.json`, "--max-examples", "20", "--checks", checks, "--no-color"];
    const { stdout } = await run(`${bin}/schemathesis`, args, { maxBuffer: 2 ** 26, cwd: folder.path }).catch(
      (error: { stdout: string }) => error,
    );
    expect(stdout).toMatch(/(\d+) generated, \1 passed/);
  },
);
