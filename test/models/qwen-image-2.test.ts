// The transformer of Qwen-Image-2.1 against diffusers' own class, in every stored form.
import { afterAll, expect, test } from "vitest";
import { directEngine } from "../../src/engine/sessions/direct.js";
import { withTransformer } from "../../src/stages/networks/open-transformer.js";
import { velocityOf } from "../../src/stages/networks/velocity.js";
import { scaledError, TOLERANCE } from "../parity/table.js";
import { CASES, conditionsOf, tinyTransformer } from "../support/qwen-image-2.js";

const engine = await directEngine({ provider: "cpu", index: 0, threads: 1 });
afterAll(() => engine.dispose());
const context = { engine, emit: () => {}, signal: new AbortController().signal };

test.each(["transformer", "transformer-fused-bf16", "transformer-scaled-fp8"])(
  "%s gives the reference's velocity without references and with 1, 2, 3 and 10",
  async (name) => {
    const model = await tinyTransformer(name);
    for (const each of CASES) {
      const conditions = conditionsOf(model, each);
      const [sigma] = model.golden.get(`${each}.timestep`).data as unknown as [number];
      const { network } = conditions;
      const run = {
        file: model.file,
        network,
        compute: "f32",
        loras: [],
        sigmas: [sigma],
        conditions,
      } as const;
      const latent = model.golden.get(`${each}.latent`).data;
      const found = await withTransformer(run, context, (opened) =>
        velocityOf(opened, conditions)(latent, sigma, "positive"),
      );
      const error = scaledError(found, model.golden.get(`${each}.velocity`).data);
      expect(error, each).toBeLessThanOrEqual(TOLERANCE.network);
    }
  },
);
