// A tool of the Model Context Protocol as we define it, and how its failures are written.
// https://modelcontextprotocol.io/specification/2025-06-18/server/tools
import type { CallToolResult, Tool as ToolDefinition } from "@modelcontextprotocol/sdk/types.js";
import { escapeControls } from "../../std/control-characters.js";
import { failureOf, type Spell, spelled } from "../../std/errors.js";

/** One call of a tool. */
export interface ToolCall {
  readonly args: Readonly<Record<string, unknown>>;
  /** Aborted when the client cancels. */
  readonly signal: AbortSignal;
  /** Reports progress, 0 to 100, where the client wants it. */
  readonly progress: (progress: number, message: string) => void;
}

/** A tool. */
export interface Tool {
  readonly definition: ToolDefinition;
  /** Does the work. Throws QeditError. */
  readonly call: (call: ToolCall) => Promise<CallToolResult>;
}

/** Parameters as arguments: `"steps": 4`. */
export const asArgument: Spell = (name, value) => (value === undefined ? `"${name}"` : `"${name}": ${value}`);

/** The result of a call that failed: for the model, which can then call again. */
export function failedCall(error: unknown): CallToolResult {
  const { code, message, hint } = failureOf(error);
  const lines = [
    spelled(message, asArgument),
    ...(hint === undefined ? [] : [`hint: ${spelled(hint, asArgument)}`]),
    `code: ${code}`,
  ];
  return { content: [{ type: "text", text: lines.map((line) => escapeControls(line)).join("\n") }], isError: true };
}
