// What runs before the tests of each file; what it imports, once a process.
import "./typed-arrays.js";
import { afterAll } from "vitest";
import { removeCaches } from "./caches.js";

afterAll(removeCaches);
