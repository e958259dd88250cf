// Packages that only some machines need: they are optional, and loaded when they are used.
import { QeditError } from "../../std/errors.js";

const INSTALL: Readonly<Record<string, string>> = {
  "@platformatic/kafka": "npm i @platformatic/kafka@1.22.0 avsc@5.7.9",
  avsc: "npm i @platformatic/kafka@1.22.0 avsc@5.7.9",
  "@aws-sdk/client-s3": "npm i @aws-sdk/client-s3@3",
};

/** The package. Throws QEDIT_E_USAGE when it is not installed. */
export async function optionalPackage<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new QeditError(
      "QEDIT_E_USAGE",
      `Cannot use ${name === "@aws-sdk/client-s3" ? "S3" : "Kafka"}: the package ${name} is not installed`,
      {
        hint: INSTALL[name],
        cause,
      },
    );
  }
}
