// Several devices in one service. The engines compute on the CPU and say that they are GPUs, so that there are two of them on any machine.
import { expect, test, vi } from "vitest";
import { deviceNames, openService } from "../../src/edit/service/service.js";
import type { chooseEngine } from "../../src/engine/device.js";
import { parseDevice } from "../../src/engine/providers.js";
import { pairedEngine } from "../../src/engine/sessions/paired.js";
import { toBytes } from "../../src/image/image.js";
import { tinyEdit } from "../support/edits.js";

vi.mock("../../src/engine/device.js", () => ({
  chooseEngine: (async (wanted) => {
    const engine = pairedEngine(parseDevice("cpu", 1));
    return { engine: { ...engine, device: parseDevice(wanted, 1) }, reason: undefined };
  }) satisfies typeof chooseEngine,
}));

// What a GPU computes in has no kernels on the CPU.
const IN_FLOAT32 = { dtype: "float32", textDtype: "float32", vaeDtype: "float32" };
const quiet = { emit: () => {}, signal: new AbortController().signal, threads: 1, vram: 24 * 1024 ** 3 };

test("every device has a queue of its own, a job goes to the shorter one, and gives the same bytes on each", async () => {
  const service = await openService({ ...quiet, device: "cuda:0,cuda:1" });
  try {
    expect(deviceNames(service)).toBe("cuda:0,cuda:1");
    const pictures: Uint8Array[] = [];
    const edits = await Promise.all(
      [0, 1, 2, 3].map(async (index) => ({
        ...(await tinyEdit({ settings: IN_FLOAT32 })),
        onPicture: async ({ image }: { image: Parameters<typeof toBytes>[0] }) =>
          void (pictures[index] = toBytes(image, "round").data),
      })),
    );
    const outcomes = await Promise.all(service.submitAll(edits).map(({ outcome }) => outcome));
    expect(outcomes.map((outcome) => outcome.state === "done" && outcome.device)).toEqual([
      "cuda:0",
      "cuda:1",
      "cuda:0",
      "cuda:1",
    ]);
    for (const bytes of pictures) expect(Buffer.from(bytes).equals(pictures[0]!)).toBe(true);
  } finally {
    await service.close();
  }
});

test.each(["cuda:0,cuda:0", "auto,cuda:0", "cuda:0,", ""])("--device %j is refused", async (device) => {
  await expect(openService({ ...quiet, device })).rejects.toMatchObject({ code: "QEDIT_E_USAGE" });
});
