/** How the files of the client use each other. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../src", import.meta.url));

/** File → the files that it imports, types too. */
function imports(): Map<string, string[]> {
  const files = (readdirSync(root, { recursive: true }) as string[]).filter((file) => /\.tsx?$/.test(file));
  const used = (file: string) => {
    const text = readFileSync(resolve(root, file), "utf8");
    return [...text.matchAll(/\bfrom "(\.[^"]*)\.js"/g)].map(([, path]) => {
      const module = relative(root, resolve(root, dirname(file), path!));
      return files.find((other) => other.replace(/\.tsx?$/, "") === module) ?? expect.fail(`${file} imports ${module}`);
    });
  };
  return new Map(files.map((file) => [file, used(file)]));
}

test("no files import each other in a circle", () => {
  const used = imports();
  expect(used.get("client.ts")).toContain("connection.ts");
  for (const start of used.keys()) {
    const way = new Map(used.get(start)!.map((file) => [file, [start, file]]));
    for (const [file, path] of way) {
      expect(file === start ? path : []).toEqual([]);
      for (const next of used.get(file)!) if (!way.has(next)) way.set(next, [...path, next]);
    }
  }
});
