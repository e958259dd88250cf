// A process that takes the lock of a target and holds it until it is killed: prints `held`, or `refused` where another one holds it.
import { withLock } from "../../src/std/lock.js";

const refuse = (): void => {
  console.log("refused");
  process.exit();
};

await withLock(process.argv[2]!, { signal: new AbortController().signal, onWait: refuse }, () => {
  console.log("held");
  return new Promise(() => setInterval(() => {}, 1000));
});
