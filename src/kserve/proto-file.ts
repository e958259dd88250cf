// The protocol of the gRPC door as a file, for the server itself and for clients.
import { fileURLToPath } from "node:url";

/** Path of kserve.proto, which the build copies. */
export const PROTO_FILE = fileURLToPath(new URL("./kserve.proto", import.meta.url));
