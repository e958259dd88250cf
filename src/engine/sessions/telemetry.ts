// ONNX Runtime's own telemetry: its library keeps a device id and a queue of events under ~/.cache/Microsoft and uploads them,
// unless told not to before it loads (onnxruntime/core/platform/posix/telemetry.cc, 1.29).

/** Turns the telemetry off; what the user has set stands. Call it in the main thread: a worker's environment is a copy, unseen by libraries. */
export function refuseTelemetry(): void {
  process.env["ORT_DISABLE_TELEMETRY"] ??= "1";
}
