// What a process runs before the tests of each file; what it imports, once.
import "./typed-arrays.js";
