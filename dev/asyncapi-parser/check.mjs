// Parse AsyncAPI documents; any error or warning is printed and fails.
import { readFileSync } from "node:fs";
import { DiagnosticSeverity, Parser } from "@asyncapi/parser";

const parser = new Parser();
for (const path of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(readFileSync(path, "utf8"), { source: path });
  const found = diagnostics.filter(({ severity }) => severity <= DiagnosticSeverity.Warning);
  for (const { path: place, message } of found) {
    console.error(`${path}: ${place.join(".")}: ${message}`);
  }
  if (found.length || !document) {
    process.exitCode = 1;
  } else {
    console.log(`${path}: valid, ${document.operations().length} operations`);
  }
}
