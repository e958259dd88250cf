// The parent's side of child.ts: starts a process for one network, and reads what ONNX Runtime prints in it.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Answers, Question } from "./child.js";

/** A process that holds a network; dispose ends it. */
export interface NetworkProcess extends AsyncDisposable {
  /** Throws the error of the process, or if it ended. */
  ask<Kind extends Question["kind"]>(question: Extract<Question, { kind: Kind }>): Promise<Answers[Kind]>;
  /** How often ONNX Runtime named each attention kernel so far: `MultiHeadAttention CUDNN_FLASH_ATTENTION`. */
  attention(): Record<string, number>;
}

/** Makes ONNX Runtime print the attention kernel of every node that it runs. */
const ENVIRONMENT = { ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO: "1" };

/** Starts a process; with tsx where this one runs under it. */
export function startNetwork(): NetworkProcess {
  const file = fileURLToPath(new URL(import.meta.url.endsWith(".ts") ? "child.ts" : "child.js", import.meta.url));
  const child = fork(file, {
    stdio: ["ignore", "pipe", "inherit", "ipc"],
    env: { ...process.env, ...ENVIRONMENT },
    serialization: "advanced",
  });
  let printed = "";
  child.stdout!.setEncoding("utf8").on("data", (text: string) => (printed += text));
  const ended = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => reject(new Error(`The process of a network ended with ${code ?? signal}`)));
  });
  ended.catch(() => {});
  return {
    async ask<Kind extends Question["kind"]>(question: Extract<Question, { kind: Kind }>) {
      child.send(question);
      const [answer] = (await Promise.race([once(child, "message"), ended])) as [
        { result: Answers[Kind] } | { failure: string },
      ];
      if ("failure" in answer) throw new Error(answer.failure);
      return answer.result;
    },
    attention: () => attentionKernels(printed),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill();
      await once(child, "exit");
    },
  };
}

/** Counts lines such as `Operator=MultiHeadAttention Node=… DataType=bf16 SdpaKernel=FLASH_ATTENTION`. */
export function attentionKernels(printed: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [, operator, kernel] of printed.matchAll(/Operator=(\w+)[^\n]*?SdpaKernel=(\w+)/g)) {
    const name = `${operator} ${kernel}`;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}
