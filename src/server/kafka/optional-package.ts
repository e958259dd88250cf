// Packages that only Kafka needs: they are optional, and loaded when they are used.
import { QeditError } from "../../std/errors.js";

/** The package. Throws QEDIT_E_USAGE when it is not installed. */
export async function optionalPackage<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new QeditError("QEDIT_E_USAGE", `Cannot use Kafka: the package ${name} is not installed`, {
      hint: "npm i @platformatic/kafka@1.22.0 avsc@5.7.9",
      cause,
    });
  }
}
