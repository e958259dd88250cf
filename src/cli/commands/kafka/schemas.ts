// qedit kafka schemas: prints the Avro schemas of the messages, and registers them.
import { avroSchemas, SCHEMA_NAMES, type SchemaName } from "../../../server/kafka/avro-schemas.js";
import { type Registered, registerSchemas } from "../../../server/kafka/schema-registry.js";
import { QeditError } from "../../../std/errors.js";
import { defineCommand } from "../../command.js";
import { schemaRegistry } from "../../settings/kafka-options.js";

const print = defineCommand({
  examples: ["qedit kafka schemas print run.request > run.request.avsc", "qedit kafka schemas print"],
  positionals: [["[name]", SCHEMA_NAMES.join(", ")]],
  options: {},
  async perform({ args: [name] }, terminal) {
    const schemas = avroSchemas();
    const printed = name === undefined ? SCHEMA_NAMES.map((each) => schemas[each]) : schemas[nameOf(name)];
    terminal.result(printed as object, JSON.stringify(printed, null, 2).split("\n"));
  },
});

const register = defineCommand({
  examples: ["qedit kafka schemas register --schema-registry http://registry:8081"],
  options: { schemaRegistry: { ...schemaRegistry, isRequired: true } },
  async perform({ settings }, terminal) {
    const registered = await registerSchemas(settings.schemaRegistry!);
    terminal.result({ schemas: registered }, registered.map(registeredLine));
  },
});

/** `qedit kafka schemas VERB`. */
export const schemas = defineCommand({
  examples: ["qedit kafka schemas print"],
  options: {},
  commands: [
    { name: "print", summary: "Print one schema, or all of them in a list", load: async () => print },
    {
      name: "register",
      summary: "Register the schemas of all topics, which keeps them readable for those that read them now",
      load: async () => register,
    },
  ],
});

/** One line for a registered schema. */
export function registeredLine({ subject, id }: Registered): string {
  return `${subject}  ${id}`;
}

function nameOf(written: string): SchemaName {
  const name = SCHEMA_NAMES.find((each) => each === written || `${each}.v1` === written);
  if (name !== undefined) return name;
  throw new QeditError("QEDIT_E_USAGE", `There is no schema "${written}"`, {
    hint: `Name one of ${SCHEMA_NAMES.join(", ")}`,
  });
}
