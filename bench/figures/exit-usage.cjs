// Preloaded into a process of Node: writes its processor time in seconds and its largest resident set in bytes to file descriptor 3 when it ends.
const { isMainThread } = require("node:worker_threads");

// Its threads are preloaded with this too.
if (isMainThread)
  process.on("exit", () => {
    const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
    require("node:fs").writeSync(
      3,
      JSON.stringify({ seconds: (userCPUTime + systemCPUTime) / 1e6, bytes: maxRSS * 1024 }),
    );
  });
