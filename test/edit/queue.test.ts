// The service's queue: jobs that are cancelled, groups that fail too often, and a queue that is full.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { ServiceEvent } from "../../src/edit/service/job.js";
import { openService, type ServiceOptions } from "../../src/edit/service/service.js";
import { QeditError } from "../../src/std/errors.js";
import { tinyEdit } from "../support/edits.js";
import { temporaryFolder } from "../support/folder.js";

const folder = temporaryFolder();
beforeAll(() => void vi.stubEnv("QEDIT_HOME", folder.at("home")));
afterAll(() => void vi.unstubAllEnvs());

const open = (options: Partial<ServiceOptions> = {}) =>
  openService({ device: "cpu", threads: 1, emit: () => {}, signal: new AbortController().signal, ...options });

const SMALL = { megapixels: 0.003, steps: 1 };

test("a job that is cancelled while it samples stops before its next step, and the next job is done", async () => {
  let steps = 0;
  let cancel = () => {};
  const emit = (event: ServiceEvent) => {
    if (event.kind !== "step" || event.total < 100) return;
    steps = event.step;
    if (event.step === 2) cancel();
  };
  const service = await open({ emit });
  const long = service.submit(await tinyEdit({ settings: { ...SMALL, steps: 300 } }));
  cancel = long.cancel;
  const next = service.submit(await tinyEdit({ settings: SMALL }));
  expect(await long.outcome).toMatchObject({ state: "failed", error: { code: "QEDIT_E_INTERRUPTED" } });
  expect(steps).toBeLessThan(5);
  expect((await next.outcome).state).toBe("done");
  await service.close();
});

test("a group ends with the failure that is one too many", async () => {
  const failing = {
    ...(await tinyEdit({ settings: SMALL })),
    pictures: () => Promise.reject(new QeditError("QEDIT_E_IMAGE", "Cannot read it")),
  };
  const service = await open();
  const jobs = service.submitAll([failing, failing, await tinyEdit({ settings: SMALL })], { maxFailures: 2 });
  const outcomes = await Promise.all(jobs.map(({ outcome }) => outcome));
  expect(outcomes.map(({ state }) => state)).toEqual(["failed", "failed", "not run"]);
  await service.close();
});

test("a full queue refuses what is one too many, and does what it has", async () => {
  const service = await open({ maxQueue: 2 });
  const edit = await tinyEdit({ settings: SMALL });
  expect(() => service.submitAll([edit, edit, edit])).toThrow(expect.objectContaining({ code: "QEDIT_E_BUSY" }));
  const jobs = service.submitAll([edit, edit]);
  expect((await Promise.all(jobs.map(({ outcome }) => outcome))).map(({ state }) => state)).toEqual(["done", "done"]);
  await service.close();
});

test("a job is done also when it comes in the moment in which the queue has run dry", async () => {
  const failing = {
    ...(await tinyEdit({ settings: SMALL })),
    pictures: () => Promise.reject(new QeditError("QEDIT_E_IMAGE", "Cannot read it")),
  };
  const service = await open();
  // Later by one turn of the microtask queue each time.
  for (let turns = 0; turns < 60; turns++) {
    expect((await service.submit(failing).outcome).state).toBe("failed");
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
  }
  await service.close();
});
