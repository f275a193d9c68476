// Writes dist/: ES modules, the same for `require` in dist/cjs, and the types of both.
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("..", import.meta.url));
// not `tsc`: the types are tested with an old TypeScript too, which has a program of that name
const compile = (project) =>
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", project], { cwd: folder, stdio: "inherit" });

rmSync(`${folder}dist`, { recursive: true, force: true });
compile("tsconfig.build.json");
compile("tsconfig.cjs.json");
writeFileSync(`${folder}dist/cjs/package.json`, '{ "type": "commonjs" }\n');
