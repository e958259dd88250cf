// The engine in this thread: each open and run blocks it until done. The worker runs this one; tests may too.
import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { QeditError } from "../../std/errors.js";
import { elementCount, type Tensor, type Tensors, type TensorType } from "../../std/tensor.js";
import { type Device, deviceName, executionProviders } from "../providers.js";
import type { Engine, Model, Session } from "./engine.js";
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
      const session: Session = {
        run: (feeds) => attempt(`run ${model.name} on ${deviceName(device)}`, () => runNative(ort, native, feeds)),
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

function sessionOptions({ optimization, weightsRoot }: Model, device: Device): InferenceSession.SessionOptions {
  const isWritten = optimization === "none";
  return {
    executionProviders: executionProviders(device),
    graphOptimizationLevel: isWritten ? "disabled" : "all",
    // Failures come back as exceptions; the runtime's own log lines would only double them on stderr.
    logSeverityLevel: 4,
    // A pattern learnt from the first run takes up to 60 % more memory in the next ones, and no less time (bench/).
    enableMemPattern: false,
    ...(device.threads > 0 ? { intraOpNumThreads: device.threads } : {}),
    extra: {
      session: {
        // Weights lie in place: absolute locations, taken relative to the root of the file system (rule 1 of the design).
        model_external_initializers_file_folder_path: weightsRoot,
        use_device_allocator_for_initializers: "1",
      },
      ...(isWritten ? { optimization: { disable_specified_optimizers: "ConstantFolding" } } : {}),
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

/** What ONNX Runtime says when memory, of the host or of the GPU, has run out. */
const OUT_OF_MEMORY =
  /bad_alloc|[Ff]ailed to allocate memory|out of memory|CUDA failure 2\b|CUBLAS_STATUS_ALLOC_FAILED|Available memory of/;

/** `CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version`, and likewise of cuBLAS and cuDNN. */
const GPU_FAILURE = /\b(?:CUDA|CUBLAS|CUDNN|CUDNN_FE|CUFFT) failure \d+: [^;]+/;

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const [line = ""] = String(cause instanceof Error ? cause.message : cause).split("\n");
    // Of a failure on the GPU the middle is what a person can read, between the templates and the macros of the place where it was met.
    const reason = GPU_FAILURE.exec(line)?.[0].trim() ?? line;
    if (OUT_OF_MEMORY.test(String(cause))) {
      throw new QeditError("QEDIT_E_MEMORY", `Cannot ${what}: out of memory`, {
        cause,
        hint: "Try a smaller picture: --megapixels 0.5",
      });
    }
    throw new QeditError("QEDIT_E_ENGINE", `Cannot ${what}: ${reason}`, { cause });
  }
}
