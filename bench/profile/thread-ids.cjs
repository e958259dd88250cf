// Preloaded into a process of Node and its threads: each writes to file descriptor 4 which thread it is, and which ran before any of its code.
const { readdirSync, readlinkSync, writeSync } = require("node:fs");
const { isMainThread } = require("node:worker_threads");

const id = readlinkSync("/proc/thread-self").split("/").at(-1);
writeSync(4, `${JSON.stringify({ id, isMainThread, running: readdirSync("/proc/self/task") })}\n`);
