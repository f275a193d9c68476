// Writes web/rowcast.js, which the server serves at /rowcast.js. With --check it fails where that is not what the
// sources give.
import { readFileSync, writeFileSync } from "node:fs";
import { core } from "./core.js";

const file = new URL("../../web/rowcast.js", import.meta.url);
const bytes = await core();

if (!process.argv.includes("--check")) {
  writeFileSync(file, bytes);
} else if (!bytes.equals(readFileSync(file))) {
  console.error("web/rowcast.js is not what client/src gives: npm run bundle");
  process.exitCode = 1;
}
