// `node --import` this file, and the process, its worker threads and its children run the TypeScript of src as it is. (tsx registers itself
// in the main thread alone with Node 20, and the engine's sessions live in worker threads.)
import { register } from "node:module";

register("./typescript-hooks.mjs", import.meta.url);
