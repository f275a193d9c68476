import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** A script of this folder with all that it imports, packages of Node aside. */
export async function bundle(name: string): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(name, import.meta.url))],
    bundle: true,
    format: "esm",
    target: "es2022",
    define: { "process.env.NODE_ENV": '"development"' },
    external: ["ws"],
    write: false,
  });
  return outputFiles[0]!.text;
}
