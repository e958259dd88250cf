// Messages that are no protobuf: their calls are refused with INVALID_ARGUMENT, where gRPC itself would say INTERNAL.
import type { ServiceDefinition } from "@grpc/grpc-js";
import { QeditError } from "../../std/errors.js";

/** A message that could not be read. */
class Unreadable {
  constructor(readonly reason: string) {}
}

/** A method whose messages are read as far as they can be. */
export function lenient<Method extends ServiceDefinition[string]>(method: Method): Method {
  return {
    ...method,
    requestDeserialize(bytes: Buffer) {
      try {
        return method.requestDeserialize(bytes) as unknown;
      } catch (error) {
        return new Unreadable((error as Error).message);
      }
    },
  };
}

/** Throws QEDIT_E_USAGE for a message that could not be read. */
export function refuseUnreadable(message: unknown): void {
  if (message instanceof Unreadable)
    throw new QeditError("QEDIT_E_USAGE", `Cannot read the message: ${message.reason.slice(0, 200)}`);
}
