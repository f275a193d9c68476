import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const { name, version, license } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

/** The core with all that it imports, as a page loads it. */
export async function core() {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("../src/index.ts", import.meta.url))],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    banner: { js: `/*! ${name} ${version}, ${license} */` },
    write: false,
  });
  return Buffer.from(outputFiles[0].contents);
}
