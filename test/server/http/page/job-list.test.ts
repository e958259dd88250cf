import { expect, test } from "vitest";
import {
  announcementOf,
  endedJobs,
  openJobs,
  progressOf,
  resultName,
  withJob,
  withList,
  withProgress,
} from "../../../../src/server/http/page/job-list.js";
import type { Job } from "../../../../src/server/http/page/page-wire.js";
import type { JobSnapshot } from "../../../../src/server/job-types.js";

// What the server sends is what the page reads.
const job = (id: string, changes: Partial<JobSnapshot> = {}): Job =>
  ({
    ...{ id, state: "queued", created: `2026-01-01T00:00:0${id}Z`, parameters: {}, inputs: [] },
    ...changes,
  }) satisfies JobSnapshot as unknown as Job;

const ids = (jobs: readonly Job[]) => jobs.map(({ id }) => id);

test("the newest job comes first", () => {
  expect(ids(withJob(withJob([job("2")], job("1")), job("3")))).toEqual(["3", "2", "1"]);
});

test("a late answer never takes a job back", () => {
  const ended = [job("1", { state: "completed" })];
  expect(withJob(ended, job("1", { state: "running" }))).toBe(ended);
  const running = [job("1", { state: "running", stage: "sample", step: 3, steps: 4 })];
  expect(withJob(running, job("1"))).toBe(running);
  expect(withJob(running, job("1", { state: "running", stage: "sample", step: 2, steps: 4 }))).toBe(running);
  expect(withJob(running, job("1", { state: "failed" }))[0]!.state).toBe("failed");
});

test("a whole list removes jobs that the server has removed, but none that was accepted meanwhile", () => {
  const jobs = [job("3"), job("2"), job("1", { state: "completed" })];
  const asked = new Set(["1", "2"]);
  expect(ids(withList(jobs, [job("2")], { asked, isWhole: true }))).toEqual(["3", "2"]);
  expect(ids(withList(jobs, [job("2")], { asked, isWhole: false }))).toEqual(["3", "2", "1"]);
});

test("steps give the time that is left, and another stage ends them", () => {
  const queued = [job("1", { position: 1 })];
  const started = withProgress(queued, "1", { event: "start", stage: "sample" });
  expect(started[0]).toMatchObject({ state: "running", stage: "sample" });
  const stepped = withProgress(started, "1", { event: "step", step: 2, total: 8, seconds: 5 });
  expect(stepped[0]).toMatchObject({ step: 2, steps: 8, eta: 30 });
  expect(progressOf(stepped[0]!)).toEqual({ text: "Sampling: step 3 of 8", share: 0.25, left: "about 30 s left" });
  const decoding = withProgress(stepped, "1", { event: "start", stage: "decode" });
  expect(progressOf(decoding[0]!)).toEqual({ text: "Making the picture", share: undefined, left: "" });
});

test("events of a job that has ended change nothing", () => {
  const ended = [job("1", { state: "cancelled" })];
  expect(withProgress(ended, "1", { event: "start", stage: "sample" })).toEqual(ended);
});

test("the queue has the running job first, then those that wait in their order", () => {
  const jobs = [
    job("4", { position: 2 }),
    job("3", { position: 1 }),
    job("2", { state: "running" }),
    job("1", { state: "failed" }),
  ];
  expect(ids(openJobs(jobs))).toEqual(["2", "3", "4"]);
  expect(ids(endedJobs(jobs))).toEqual(["1"]);
});

test("a job that waits has its place", () => {
  expect(progressOf(job("1", { position: 1 })).text).toBe("Next in the queue");
  expect(progressOf(job("1", { position: 3 })).text).toBe("Place 3 in the queue");
});

test("stages and ends are announced, steps are not", () => {
  const sampling = job("1", { state: "running", stage: "sample", step: 1, steps: 4 });
  expect(announcementOf(job("1"), sampling)).toBe("Sampling: step 2 of 4");
  expect(announcementOf(sampling, { ...sampling, step: 2 })).toBeUndefined();
  expect(announcementOf(sampling, job("1", { state: "completed" }))).toBe("The edit is done");
  const error = { code: "QEDIT_E_MEMORY", message: "Memory ran out" } as const;
  expect(announcementOf(sampling, job("1", { state: "failed", error: error as never }))).toBe(
    "The edit failed: Memory ran out",
  );
});

test("a result is named after its first picture and its type", () => {
  const inputs = [{ name: "my.cat.jpeg", sha256: "" }];
  expect(resultName(job("1", { inputs, result: { type: "image/webp" } as never }))).toBe("my.cat-edit.webp");
  expect(resultName(job("1"))).toBe("edit-1-edit.png");
});
