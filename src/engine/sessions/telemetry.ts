// ONNX Runtime's telemetry: the library stores a device id and a queue of events under ~/.cache/Microsoft and uploads them,
// unless ORT_DISABLE_TELEMETRY is set before it loads (onnxruntime/core/platform/posix/telemetry.cc, 1.29).

/** Disables telemetry unless the user has set the variable. Call it in the main thread: a worker thread's environment is a copy that libraries do not see; a child process inherits it. */
export function disableTelemetry(): void {
  process.env["ORT_DISABLE_TELEMETRY"] ??= "1";
}
