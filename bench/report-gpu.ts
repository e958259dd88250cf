// Prints bench/results/gpu.json, or the file given, as the Markdown of bench/README.md. npx tsx bench/report-gpu.ts [FILE]
import { join } from "node:path";
import { repositoryRoot } from "./gpu/files.js";
import { readReport } from "./gpu/results.js";
import { reportText } from "./gpu/tables.js";

console.log(reportText(readReport(process.argv[2] ?? join(repositoryRoot(), "bench/results/gpu.json"))));
