// Prints bench/results/gpu.json, or the file given, as the Markdown of bench/README.md. npx tsx bench/report-gpu.ts [FILE]
import { join } from "node:path";
import { repositoryRoot } from "./gpu/files.js";
import { readReport, reportText } from "./gpu/results.js";

console.log(reportText(readReport(process.argv[2] ?? join(repositoryRoot(), "bench/results/gpu.json"))));
