// Prints what the core weighs in a page, and fails where it is too much.
import { gzipSync } from "node:zlib";
import { core } from "./core.js";

// 10 KiB
const LIMIT = 10_240;

const bytes = await core();
const zipped = gzipSync(bytes, { level: 9 }).length;
console.log(`rowcast-client: ${bytes.length} bytes minified, ${zipped} gzipped (limit ${LIMIT})`);
if (zipped > LIMIT) process.exitCode = 1;
