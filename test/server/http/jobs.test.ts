// Jobs of a real server process: accepted, followed, cancelled; each picture is that of `qedit run`.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobSnapshot } from "../../../src/server/job-types.js";
import { CAT, ROCKET } from "../../cli/qedit.js";
import { temporaryFolder } from "../../support/folder.js";
import { childrenOf } from "../../support/processes.js";
import { startServer, type TestServer } from "../../support/server.js";
import { contentOf, endOf, eventsOf, formOf, jobOf, sendJob } from "../jobs.js";
import { ran } from "../ran.js";

const folder = temporaryFolder();
const SMALL = { prompt: "make it black and white", megapixels: "0.02", steps: "2" };
/** Seconds on any machine: to be cancelled, or killed in. */
const LONG = { prompt: "make it winter", megapixels: "0.02", steps: "200", seed: "5" };

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ folder: folder.path, args: ["--max-queue", "4", "--no-cache"] });
});
afterAll(() => server.stop("SIGKILL"));

describe("a job", () => {
  test("has the bytes of qedit run, with one picture and with two", async () => {
    for (const [pictures, fields] of [
      [[CAT], SMALL],
      [
        [ROCKET, CAT],
        {
          ...SMALL,
          prompt: "the colours of picture 2",
          seed: "7",
          format: "jpeg",
          jpeg_quality: "80",
          keep_size: "true",
        },
      ],
    ] as const) {
      const { id } = await sendJob(server.url, formOf(pictures, fields));
      expect((await endOf(server.url, id)).state).toBe("completed");
      expect((await contentOf(server.url, id)).equals(await ran(pictures, fields, folder))).toBe(true);
    }
  });

  test("is sent as JSON too", async () => {
    const data = readFileSync(CAT).toString("base64");
    const body = JSON.stringify({ ...SMALL, megapixels: 0.02, steps: 2, images: [{ name: "cat.jpg", data }] });
    const response = await fetch(`${server.url}/v1/jobs`, {
      method: "POST",
      body,
      headers: { "content-type": "application/json" },
    });
    expect(response.status).toBe(202);
    const { id } = (await response.json()) as JobSnapshot;
    expect(response.headers.get("location")).toBe(`/v1/jobs/${id}`);
    expect((await endOf(server.url, id)).result).toMatchObject({ type: "image/png", seed: "0", device: "cpu" });
    expect((await contentOf(server.url, id)).equals(await ran([CAT], SMALL, folder))).toBe(true);
  });

  test("is followed by its events, with previews, until it has ended", async () => {
    const { id } = await sendJob(server.url, formOf([CAT], { ...SMALL, steps: "3", previews: "true" }));
    const events = eventsOf(await (await fetch(`${server.url}/v1/jobs/${id}/events`)).text());
    const states = events.filter(({ event }) => event === "state").map(({ data }) => data["state"]);
    expect(states.at(-1)).toBe("completed");
    const kinds = new Set(events.filter(({ event }) => event === "progress").map(({ data }) => data["event"]));
    expect([...kinds]).toEqual(expect.arrayContaining(["start", "step", "end", "drift"]));
    const [preview] = events.filter(({ event }) => event === "preview");
    expect(preview!.data["type"]).toBe("image/jpeg");
    expect(Buffer.from(String(preview!.data["b64_json"]), "base64").subarray(0, 3)).toEqual(
      Buffer.from([0xff, 0xd8, 0xff]),
    );
  });

  test("that runs is cancelled between two steps, one that waits at once; the next one is made", async () => {
    const running = await sendJob(server.url, formOf([CAT], LONG));
    const waiting = await sendJob(server.url, formOf([CAT], { ...LONG, seed: "6" }));
    const next = await sendJob(server.url, formOf([CAT], { ...SMALL, seed: "3" }));
    expect((await jobOf(server.url, waiting.id)).position).toBe(1);
    await expect
      .poll(async () => (await jobOf(server.url, running.id)).step ?? 0, { timeout: 60_000 })
      .toBeGreaterThan(0);
    for (const { id } of [waiting, running]) {
      const response = await fetch(`${server.url}/v1/jobs/${id}`, { method: "DELETE" });
      expect(await response.json()).toMatchObject({ state: "cancelled", error: { code: "QEDIT_E_INTERRUPTED" } });
    }
    expect((await endOf(server.url, next.id)).state).toBe("completed");
    const content = await fetch(`${server.url}/v1/jobs/${running.id}/content`);
    expect([content.status, ((await content.json()) as { error: { code: string } }).error.code]).toEqual([
      404,
      "no_result",
    ]);
  });

  test("of an Idempotency-Key that was used is the first one; another request with it is refused", async () => {
    const key = { "idempotency-key": "one" };
    const first = await sendJob(server.url, formOf([CAT], SMALL), key);
    expect((await sendJob(server.url, formOf([CAT], SMALL), key)).id).toBe(first.id);
    const other = await fetch(`${server.url}/v1/jobs`, {
      method: "POST",
      body: formOf([CAT], { ...SMALL, seed: "1" }),
      headers: key,
    });
    expect([other.status, other.headers.get("x-should-retry")]).toEqual([409, "false"]);
    await endOf(server.url, first.id);
  });

  test("of an Idempotency-Key is the first one in JSON and as a form, and another one with previews", async () => {
    const form = (fields: Readonly<Record<string, string>> = {}) =>
      formOf([CAT], { ...SMALL, seed: "7", keep_size: "true", ...fields });
    const headers = { "idempotency-key": "typed-values" };
    const { id } = await sendJob(server.url, form(), headers);
    const data = readFileSync(CAT).toString("base64");
    const typed = { ...SMALL, megapixels: 0.02, steps: 2, seed: 7, keep_size: true };
    const response = await fetch(`${server.url}/v1/jobs`, {
      method: "POST",
      body: JSON.stringify({ ...typed, images: [{ name: "cat.jpg", data }] }),
      headers: { ...headers, "content-type": "application/json" },
    });
    expect([response.status, await response.json()]).toMatchObject([202, { id }]);
    await expect(sendJob(server.url, form({ previews: "true" }), headers)).rejects.toThrow("409");
    await endOf(server.url, id);
  });

  test("gives back the pictures that were sent", async () => {
    const { id } = await sendJob(server.url, formOf([CAT, ROCKET], { ...SMALL, prompt: "the colours of picture 2" }));
    const sent = await fetch(`${server.url}/v1/jobs/${id}/inputs/2`);
    expect([sent.status, sent.headers.get("content-type")]).toEqual([200, "image/jpeg"]);
    expect(Buffer.from(await sent.arrayBuffer()).equals(readFileSync(ROCKET))).toBe(true);
    expect((await fetch(`${server.url}/v1/jobs/${id}/inputs/3`)).status).toBe(404);
    await endOf(server.url, id);
  });

  test("has a picture that is sent again only to those who do not have it", async () => {
    const { id } = await sendJob(server.url, formOf([CAT], SMALL));
    await endOf(server.url, id);
    const ask = (headers: Record<string, string> = {}) => fetch(`${server.url}/v1/jobs/${id}/content`, { headers });
    const { headers } = await ask();
    const tag = headers.get("etag")!;
    // https://www.rfc-editor.org/rfc/rfc9110#section-13.1.2
    for (const given of [tag, `W/${tag}`, `"other", ${tag}`, `"a,b",W/"other" ,W/${tag}`, "*"]) {
      const kept = await ask({ "if-none-match": given });
      expect([given, kept.status, await kept.text()]).toEqual([given, 304, ""]);
      for (const name of ["etag", "cache-control"]) expect(kept.headers.get(name)).toBe(headers.get(name));
    }
    for (const given of ['"other"', tag.slice(1, -1), `"*"`])
      expect([given, (await ask({ "if-none-match": given })).status]).toEqual([given, 200]);
  });
});

test("the trace of a request goes through to the log of its job", async () => {
  const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
  const { id } = await sendJob(server.url, formOf([CAT], SMALL), { traceparent: `00-${traceId}-00f067aa0ba902b7-01` });
  await endOf(server.url, id);
  const lines = server.log.filter(({ trace_id }) => trace_id === traceId);
  expect(lines.map(({ msg }) => msg)).toEqual(
    expect.arrayContaining([
      expect.stringContaining("POST /v1/jobs 202"),
      expect.stringContaining(`job ${id} completed`),
    ]),
  );
});

describe("the queue", () => {
  test("refuses pictures that it never has room for, by its limit", async () => {
    const form = formOf([CAT], { ...SMALL, n: "5" });
    const response = await fetch(`${server.url}/v1/images/edits`, { method: "POST", body: form });
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { error: { param: "n", message: 'Cannot use "n": 5 pictures are wanted, and the queue takes 4 jobs' } },
    ]);
  });

  test("refuses what is too much with 429, and takes it when there is room", async () => {
    const jobs = [];
    for (let seed = 0; seed < 4; seed++)
      jobs.push(await sendJob(server.url, formOf([CAT], { ...LONG, seed: String(seed) })));
    const full = await fetch(`${server.url}/v1/jobs`, { method: "POST", body: formOf([CAT], SMALL) });
    expect(full.status).toBe(429);
    expect(Number(full.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(full.headers.get("x-should-retry")).toBe("true");
    for (const { id } of jobs) await fetch(`${server.url}/v1/jobs/${id}`, { method: "DELETE" });
    await expect
      .poll(async () => (await fetch(`${server.url}/v1/jobs`, { method: "POST", body: formOf([CAT], SMALL) })).status, {
        timeout: 60_000,
      })
      .toBe(202);
  });
});

test("the model of requests that name none is the default one of the list", async () => {
  const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: readonly object[] };
  expect(data).toEqual([expect.objectContaining({ id: "tiny", is_default: true })]);
});

test("an engine that is killed fails its job with a reason, and the next job is made", async () => {
  const { id } = await sendJob(server.url, formOf([CAT], { ...LONG, seed: "77" }));
  await expect.poll(async () => (await jobOf(server.url, id)).step ?? 0, { timeout: 60_000 }).toBeGreaterThan(0);
  for (const pid of childrenOf(server.child.pid!)) process.kill(pid, "SIGKILL");
  expect(await endOf(server.url, id)).toMatchObject({
    state: "failed",
    error: { code: "QEDIT_E_ENGINE", message: expect.stringContaining("SIGKILL") },
  });
  const next = await sendJob(server.url, formOf([CAT], SMALL));
  expect((await endOf(server.url, next.id)).state).toBe("completed");
});
