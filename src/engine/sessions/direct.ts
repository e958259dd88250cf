// The engine in the calling thread, which each open and run blocks until done. The worker thread uses it.
import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { elementCount, type Tensor, type Tensors, type TensorType } from "../../std/tensor.js";
import { type Device, deviceName, executionProviders } from "../providers.js";
import {
  type Engine,
  type Feeds,
  type KeptNames,
  type KeptTensor,
  type Model,
  namedTensors,
  type Session,
} from "./engine.js";
import { engineFailure } from "./engine-failure.js";
import { loadOnnxRuntime, type OnnxRuntime } from "./loading.js";

/** Opens an engine whose sessions run in the calling thread. */
export async function directEngine(device: Device): Promise<Engine> {
  const ort = await loadOnnxRuntime(device);
  const sessions = new Set<Session>();
  return {
    device,
    async open(model) {
      const native = await attempt(`open ${model.name} on ${deviceName(device)}`, () =>
        ort.InferenceSession.create(model.bytes, sessionOptions(model, device)),
      );
      const run = (feeds: Feeds) =>
        attempt(`run ${model.name} on ${deviceName(device)}`, () => runNative(ort, native, tensorsOf(feeds)));
      const session: Session = {
        run,
        runKept: async (feeds, names) => withKeptHere(await run(feeds), names),
        keep: async (tensors) => keptHere(tensors),
        async dispose() {
          if (sessions.delete(session)) await native.release();
        },
      };
      sessions.add(session);
      return session;
    },
    async dispose() {
      for (const session of [...sessions]) await session.dispose();
    },
  };
}

/** A tensor in this thread. */
class HereTensor implements KeptTensor {
  readonly type: TensorType;
  readonly shape: readonly number[];
  #tensor: Tensor | undefined;

  constructor(tensor: Tensor) {
    this.type = tensor.type;
    this.shape = tensor.shape;
    this.#tensor = tensor;
  }

  get tensor(): Tensor {
    if (!this.#tensor) throw new Error("internal: a kept tensor was disposed");
    return this.#tensor;
  }

  async dispose(): Promise<void> {
    this.#tensor = undefined;
  }
}

function keptHere(tensors: Tensors): Record<string, HereTensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, new HereTensor(tensor)]));
}

function withKeptHere(tensors: Tensors, names: KeptNames): Feeds {
  return { ...tensors, ...keptHere(namedTensors(tensors, names)) };
}

function tensorsOf(feeds: Feeds): Tensors {
  return Object.fromEntries(
    Object.entries(feeds).map(([name, feed]) => {
      if ("data" in feed) return [name, feed];
      if (feed instanceof HereTensor) return [name, feed.tensor];
      throw new Error(`internal: "${name}" is kept by another engine`);
    }),
  );
}

function sessionOptions({ optimization, weightsRoot }: Model, device: Device): InferenceSession.SessionOptions {
  const isUnoptimized = optimization === "none";
  return {
    executionProviders: executionProviders(device),
    graphOptimizationLevel: isUnoptimized ? "disabled" : "all",
    // Failures are exceptions; ONNX Runtime would log them to stderr as well.
    logSeverityLevel: 4,
    // The pattern of the first run takes up to 60 % more memory in later ones, and no less time (bench/).
    enableMemPattern: false,
    ...(device.threads > 0 ? { intraOpNumThreads: device.threads } : {}),
    extra: {
      session: {
        // Weights are read in place: locations are absolute paths, relative to the root of the file system.
        model_external_initializers_file_folder_path: weightsRoot,
        use_device_allocator_for_initializers: "1",
        ...(optimization === "widened" && { disable_prepacking: "1" }),
      },
      ...(isUnoptimized ? { optimization: { disable_specified_optimizers: "ConstantFolding" } } : {}),
    },
  };
}

async function runNative(ort: OnnxRuntime, native: InferenceSession, feeds: Tensors): Promise<Tensors> {
  const inputs: Record<string, OrtTensor> = {};
  for (const [name, { type, data, shape }] of Object.entries(feeds))
    inputs[name] = new ort.Tensor(type, data as never, shape);
  const outputs = await native.run(inputs);
  return Object.fromEntries(Object.entries(outputs).map(([name, output]) => [name, hostTensor(output)]));
}

function hostTensor(output: OrtTensor): Tensor {
  const shape = [...output.dims];
  if (elementCount(shape) !== output.size)
    throw new Error(`internal: output of ${output.size} elements with shape [${shape.join(", ")}]`);
  return { type: output.type as TensorType, shape, data: output.data as Tensor["data"] };
}

// Throws QEDIT_E_MEMORY or QEDIT_E_ENGINE, in one line, for an error of ONNX Runtime.
async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw engineFailure(what, cause);
  }
}
