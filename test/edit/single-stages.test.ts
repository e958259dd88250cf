// Single stages of a service: each in turn with the jobs, followed by its own events, and stopped alone.
import { describe, expect, test } from "vitest";
import { encodeImage } from "../../src/stages/encode-image.js";
import { encodePrompt } from "../../src/stages/encode-prompt.js";
import { sample } from "../../src/stages/sample.js";
import type { ProgressEvent } from "../../src/std/events.js";
import { tinyEdit } from "../support/edits.js";
import { withService } from "../support/services.js";

describe("a single stage", () => {
  test("waits for the jobs before it, and those after it wait", async () => {
    await withService({}, async ({ service }) => {
      const order: string[] = [];
      const [one, other] = [await tinyEdit(), await tinyEdit()];
      const job = (edit: typeof one, name: string) => service.submit(edit).outcome.then(() => order.push(name));
      const first = job(one, "first");
      // A turn of the event loop later the job has begun.
      await new Promise((resolve) => setImmediate(resolve));
      const alone = service.alone(async () => {
        order.push("begins");
        await new Promise((resolve) => setTimeout(resolve, 100));
        order.push("ends");
      });
      const second = job(other, "second");
      await Promise.all([first, alone, second]);
      expect(order).toEqual(["first", "begins", "ends", "second"]);
    });
  });

  test("that fails lets the next one have its turn", async () => {
    await withService({}, async ({ service }) => {
      await expect(service.alone(() => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
      expect(await service.alone(async () => 7)).toBe(7);
      expect(await service.submit(await tinyEdit()).outcome).toMatchObject({ state: "done" });
    });
  });

  test("emits its events to its caller, and to the service", async () => {
    await withService({}, async ({ service, events }) => {
      const { resolved, pictures } = await tinyEdit();
      const own: ProgressEvent[] = [];
      const input = { inputs: { pictures: await pictures() }, ...resolved };
      await service.runStage(encodePrompt, input, { emit: (event) => own.push(event) });
      const stages = own.filter(({ kind }) => kind === "start" || kind === "end");
      expect(stages.map(({ kind }) => kind)).toEqual(["start", "end"]);
      expect(events).toEqual(expect.arrayContaining(stages));
    });
  });

  test("stops between two steps by its own signal", async () => {
    await withService({}, async ({ service }) => {
      const { resolved, pictures } = await tinyEdit({ settings: { steps: 50 } });
      const input = { inputs: { pictures: await pictures() }, ...resolved };
      const latents = await service.runStage(encodeImage, input);
      const cond = await service.runStage(encodePrompt, input);
      const stop = new AbortController();
      const steps: number[] = [];
      const stopped = service.runStage(
        sample,
        { inputs: { latents, cond }, ...resolved },
        {
          signal: stop.signal,
          emit(event) {
            if (event.kind !== "step") return;
            steps.push(event.step);
            if (event.step === 2) stop.abort(new Error("nobody waits"));
          },
        },
      );
      await expect(stopped).rejects.toThrow("nobody waits");
      expect(steps).toEqual([0, 1, 2]);
    });
  });

  test("leaves the networks of others open when those of one are closed", async () => {
    await withService({ keepAlive: Number.POSITIVE_INFINITY }, async ({ service }) => {
      await service.submit(await tinyEdit()).outcome;
      await service.closeIdle(["transformer"]);
      const networks = service.sessions().map(({ network }) => network);
      expect(networks).toContain("vae-decoder");
      expect(networks).not.toContain("transformer");
    });
  });
});
