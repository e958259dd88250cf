// qedit kafka schemas: prints the Avro schemas of the messages.
import { avroSchemas, SCHEMA_NAMES, type SchemaName } from "../../../server/kafka/avro-schemas.js";
import { QeditError } from "../../../std/errors.js";
import { defineCommand } from "../../command.js";

const print = defineCommand({
  summary: "Print one schema, or all of them in a list",
  examples: ["qedit kafka schemas print run.request > run.request.avsc", "qedit kafka schemas print"],
  positionals: [["[name]", SCHEMA_NAMES.join(", ")]],
  options: {},
  async perform({ args: [name] }, terminal) {
    const schemas = avroSchemas();
    const printed = name === undefined ? SCHEMA_NAMES.map((each) => schemas[each]) : schemas[nameOf(name)];
    terminal.result(printed as object, JSON.stringify(printed, null, 2).split("\n"));
  },
});

/** `qedit kafka schemas print`. */
export const schemas = defineCommand({
  summary: "Show the Avro schemas of the messages",
  examples: ["qedit kafka schemas print"],
  options: {},
  commands: { print },
});

function nameOf(written: string): SchemaName {
  const name = SCHEMA_NAMES.find((each) => each === written || `${each}.v1` === written);
  if (name !== undefined) return name;
  throw new QeditError("QEDIT_E_USAGE", `There is no schema "${written}"`, {
    hint: `Name one of ${SCHEMA_NAMES.join(", ")}`,
  });
}
