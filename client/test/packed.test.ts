/** The package as npm packs and installs it: for programs, and for compilers. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { golden, Scripted, snapshot, subscribed } from "./scripted.js";

const here = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "rowcast-packed-"));
const installed = join(folder, "node_modules/rowcast-client");
const run = promisify(execFile);

beforeAll(async () => {
  await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: here });
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"))!;
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${tarball}`], { cwd: folder });
  for (const name of ["react", "react-dom", "ws", "@tanstack"].map((name) => join("node_modules", name))) {
    symlinkSync(join(here, name), join(folder, name));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MODULES = {
  "rowcast-client": "connect, RowcastError",
  "rowcast-client/store": "collectionStore",
  "rowcast-client/react": "useCollection",
  "rowcast-client/tabs": "SharedSocket",
  "rowcast-client/tanstack": "rowcastCollectionOptions",
  "rowcast-client/query": "invalidate",
  "@tanstack/db": "createCollection",
  ws: "WebSocket",
  react: "createElement",
  "react-dom/server": "renderToString",
};
const required = Object.entries(MODULES).map(([name, what]) => `const { ${what} } = require("${name}");`);
const imported = Object.entries(MODULES).map(([name, what]) => `import { ${what} } from "${name}";`);
const mixed = [
  'import { createRequire } from "node:module";',
  ...imported.slice(1),
  'import { RowcastError } from "rowcast-client";',
  'const { connect } = createRequire(import.meta.url)("rowcast-client");',
];

/** Prints what a server renders, then what a store is shown, and ends when the client is closed. */
const PROGRAM = `
  // it opens nothing where it is not used
  if (!SharedSocket) throw new Error("there is no SharedSocket");
  const client = connect(process.argv[2], { WebSocket });
  const Pets = () => JSON.stringify(useCollection(client, "pets", { key: "pet_id" }));
  const pets = collectionStore(client, "pets", { key: "pet_id" });
  createCollection(rowcastCollectionOptions(client, "pets", { key: "pet_id" }));
  invalidate(client, {}, () => {});
  const rendered = renderToString(createElement(Pets));
  pets.subscribe(({ rows, isReady, error }) => {
    if (error) console.log(error instanceof RowcastError, error.name, error.code);
    if (error) client.close();
    else if (isReady) {
      console.log(rendered, JSON.stringify(rows));
      client.subscribe("cats");
    }
  });
`;

test.each([
  ["required", "app.cjs", required, true],
  ["imported", "app.mjs", imported, true],
  // the class of the error is that of the build which made it: a program asks for its name
  ["required here and imported there", "mixed.mjs", mixed, false],
])("%s, it works in Node", async (_, file, lines, isSame) => {
  const server = await Scripted.start();
  writeFileSync(join(folder, file), [...lines, PROGRAM].join("\n"));
  const ended = run(process.execPath, [join(folder, file), server.url], { timeout: 60_000 });
  const socket = await server.socket();
  socket.send(snapshot([{ pet_id: 1 }]), snapshot([], "1A"), subscribed("1A"), golden.cut);
  for (const channel of ["pets", "cats"]) expect(await socket.command()).toMatchObject({ type: "subscribe", channel });
  socket.send({ ...golden.error, code: "forbidden", ref: "pets" });
  const { stdout } = await ended;
  const rendered = '{"rows":[],"isReady":false}'.replaceAll('"', "&quot;");
  expect(stdout.trim().split("\n")).toEqual([`${rendered} [{"pet_id":1}]`, `${isSame} RowcastError forbidden`]);
  await server.stop();
});

test("each entry has the file that it names, for those who know no exports too", () => {
  const { exports, main, module, types } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
  for (const [entry, targets] of Object.entries<any>(exports)) {
    if (entry === "./package.json") continue;
    const paths = [targets.import, targets.require].flatMap((each) => [each.types, each.default]);
    for (const path of paths) expect(existsSync(join(installed, path)), path).toBe(true);
    const from = join(installed, entry);
    const other = entry === "." ? { main, module, types } : JSON.parse(readFileSync(join(from, "package.json"), "utf8"));
    const wanted = [targets.require.default, targets.import.default, targets.require.types];
    const given = [other.main, other.module, other.types];
    expect(given.map((path) => join(from, path))).toEqual(wanted.map((path) => join(installed, path)));
  }
});

test.each([
  ["typescript", "esnext", "bundler", "app.ts"],
  ["typescript", "nodenext", "nodenext", "app.ts"],
  ["typescript", "nodenext", "nodenext", "app.cts"],
  // 5.4, the oldest that knows what the types say
  ["oldest-typescript", "esnext", "node10", "app.ts"],
  ["oldest-typescript", "commonjs", "node10", "app.cts"],
  ["oldest-typescript", "node16", "node16", "app.ts"],
  ["oldest-typescript", "node16", "node16", "app.cts"],
  ["oldest-typescript", "esnext", "bundler", "app.ts"],
  // TanStack DB has its own oldest one
  ["typescript", "esnext", "bundler", "tanstack.ts"],
  ["typescript", "nodenext", "nodenext", "tanstack.ts"],
])("%s: %s, %s, %s", async (compiler, module, moduleResolution, file) => {
  const isOther = file === "tanstack.ts";
  const source = readFileSync(new URL(`consumer/${isOther ? file : "app.ts"}`, import.meta.url), "utf8");
  // there is no such loop outside of a module
  writeFileSync(join(folder, file), file === "app.cts" ? source.replace(/^for await.*$/m, "") : source);
  const compilerOptions = {
    ...{ module, moduleResolution, target: "es2022", lib: isOther ? ["es2022", "dom"] : ["es2022"], types: [] },
    // the types of TanStack DB are not made for exactOptionalPropertyTypes
    skipLibCheck: isOther,
    ...{ strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: false, noEmit: true },
  };
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [file] }));
  const tsc = join(here, "node_modules", compiler, "bin/tsc");
  const { stdout } = await run(process.execPath, [tsc, "-p", folder]).catch((error) => error);
  expect(stdout).toBe("");
});
