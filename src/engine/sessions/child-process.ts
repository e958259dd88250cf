// The child process's side: a worker thread that owns the sessions, and the main thread between it and the parent's pipe. create() and run()
// block the worker for minutes; the main thread sees at once that the parent has ended.
import { Socket } from "node:net";
import type { Device } from "../providers.js";
import { messageStream } from "./message-stream.js";
import type { Request, Response } from "./protocol.js";
import { startWorker } from "./threaded.js";

/** The pipe's file descriptor, see child.ts. */
const PIPE = 3;

// What the terminal or a service manager sends to every process of the group is the parent's to decide on.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

const worker = startWorker(JSON.parse(process.argv[2] ?? "") as Device);
const pipe = new Socket({ fd: PIPE, readable: true, writable: true });
const send = messageStream<Request, Response>(pipe, (request, buffers) => worker.postMessage(request, buffers));
worker.on("message", send);
worker.on("error", ({ message }) => process.stderr.write(`${message}\n`));
worker.on("exit", (code) => pipe.end(() => process.exit(code)));

// The parent has ended. process.exit would wait for a run under way.
for (const event of ["end", "error"]) pipe.once(event, () => process.kill(process.pid, "SIGKILL"));
