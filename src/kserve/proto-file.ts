// The protocol of the gRPC door as a file, for the server itself and for clients.

import { fileURLToPath } from "node:url";
import { packageFile } from "../std/package-files.js";

/** Path of kserve.proto, which the build copies. */
export const PROTO_FILE = fileURLToPath(packageFile("kserve/kserve.proto"));
