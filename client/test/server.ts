/** A private Postgres and a rowcast on it, for tests. Both are ended by their own process ids. */
import { execFile, execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { WebSocket } from "ws";
import { subprotocols } from "../src/token.js";
import type { Pet } from "./pages/pet.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const rowcast =
  process.env.ROWCAST_BIN ??
  ["target/release/rowcast", "target/debug/rowcast"].map((path) => join(root, path)).find(existsSync);

/** Why these tests cannot run here, or nothing. */
export function missing(): string | undefined {
  if (!rowcast || !existsSync(rowcast)) return "there is no rowcast: run `cargo build --release`, or set ROWCAST_BIN";
  try {
    programs();
  } catch (error) {
    return String((error as { stderr?: Buffer }).stderr ?? error);
  }
}

/** Why there is no Redis here, or nothing. */
export function missingRedis(): string | undefined {
  try {
    execFileSync(REDIS, ["--version"], { stdio: "pipe" });
  } catch {
    return "there is no redis-server: run scripts/install-redis, or name one in ROWCAST_REDIS_SERVER";
  }
}

const REDIS = process.env.ROWCAST_REDIS_SERVER ?? "redis-server";

export function programs(): string {
  return execFileSync(join(root, "scripts/find-postgres"), { stdio: "pipe", encoding: "utf8" }).trim();
}

/** The statement that inserts pets of three users. */
export function insertPets(from: number, to: number): string {
  return `insert into pets select n, n % 3, 'pet ' || n from generate_series(${from}, ${to}) n`;
}

/** What a server is started with. */
export interface Setup {
  /** makes the tables, before rowcast is installed */
  tables: string;
  /** watches them */
  watch: string;
  /** settings of rowcast */
  env: Record<string, string>;
  /** clients are served from a Redis Stream, into which another node publishes */
  isGateway?: boolean;
}

/** The table `public.pets`, of the user in its column `user_id`; every channel is open. */
const PETS: Setup = {
  tables: "create table pets (pet_id bigint primary key, user_id bigint, name text)",
  watch: "select rowcast.watch('public.pets', user_rule => 'user_id')",
  env: {},
};

export class Server {
  readonly #folder = mkdtempSync(join(tmpdir(), "rowcast-client-"));
  readonly #programs = programs();
  readonly #database = `postgres://test@${encodeURIComponent(this.#folder)}/postgres`;
  /** what Postgres runs as where these tests run as root, as whom it refuses to */
  readonly #owner = owner();
  #postgres!: ChildProcess;
  #rowcast: ChildProcess | undefined;
  /** Redis, and the node that publishes into it */
  #backbone: ChildProcess[] = [];
  #stream: string | undefined;
  port = 0;

  private constructor(readonly setup: Setup) {}

  static async start(setup: Partial<Setup> = {}): Promise<Server> {
    const server = new Server({ ...PETS, ...setup });
    try {
      await server.#begin();
      return server;
    } catch (error) {
      await server.stop();
      throw error;
    }
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Runs statements, in one transaction; what they print. */
  sql(statements: string): string {
    return this.#psql(this.#database, statements);
  }

  /** Lets nobody into the database, or everybody again. */
  admit(isAllowed: boolean): void {
    const other = this.#database.replace(/postgres$/, "template1");
    this.#psql(other, `alter database postgres allow_connections ${isAllowed}`);
    const there = "pg_stat_activity where datname = 'postgres'";
    if (!isAllowed) this.#psql(other, `select pg_terminate_backend(pid) from ${there}`);
  }

  /** The same, while this process goes on. */
  async write(statements: string): Promise<string> {
    const { stdout } = await promisify(execFile)(...this.#command(this.#database, statements), { encoding: "utf8" });
    return stdout.trim();
  }

  /** Memory of rowcast, in MiB. `NaN` where the system has no `/proc`. */
  memory(): number {
    if (!existsSync("/proc/self/status")) return NaN;
    const [, kib] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.#rowcast!.pid}/status`, "utf8"))!;
    return Number(kib) / 1_024;
  }

  #psql(database: string, statements: string): string {
    return execFileSync(...this.#command(database, statements), { encoding: "utf8", stdio: "pipe" }).trim();
  }

  #command(database: string, statements: string): [string, string[]] {
    const psql = existsSync(join(this.#programs, "psql")) ? join(this.#programs, "psql") : "psql";
    return [psql, ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statements]];
  }

  /** What `/websocket/status` says. */
  async status(): Promise<{ connections: number; channels: Record<string, number> }> {
    return (await fetch(`${this.url}/websocket/status`)).json() as Promise<any>;
  }

  /** Empties pets and inserts pets 1 to `count`. Returns when the server has told it: a new client is not told. */
  async refill(count: number, token?: string): Promise<void> {
    const socket = new WebSocket(`${this.url.replace("http", "ws")}/ws/pets`, subprotocols(token));
    const told = new Promise<void>((resolve) => {
      socket.on("message", (data) => {
        const message = JSON.parse(String(data));
        if (message.type === "subscribed") this.sql(`truncate pets; ${insertPets(1, count)}`);
        if (message.action === "truncated") resolve();
      });
    });
    await told;
    socket.close();
    await once(socket, "close");
  }

  /** The rows of pets for which a condition holds. */
  pets(where = "true"): Pet[] {
    return JSON.parse(this.sql(`select coalesce(json_agg(p order by pet_id), '[]') from pets p where ${where}`));
  }

  /** Inserts a pet. A client that was told of it was told of all that came before. */
  mark(): void {
    this.sql("insert into pets select 1 + coalesce(max(pet_id), 0) from pets");
  }

  /** Ids of the changes of pets after one, oldest first. */
  changesAfter(id: number): number[] {
    const outbox = "rowcast.outbox o join rowcast.channel c on c.id = o.channel and c.name = 'pets'";
    const ids = "coalesce(json_agg(o.id order by o.id), '[]')";
    return JSON.parse(this.sql(`select ${ids} from ${outbox} where o.id > ${id}`));
  }

  /** Starts rowcast, on the port that it had. Returns when it is live. */
  async serve(): Promise<void> {
    this.port ||= await freePort();
    this.#rowcast = await this.#launch(this.port, this.#stream ? { ROWCAST_SUBSCRIBE: this.#stream } : {});
  }

  async #launch(port: number, env: Record<string, string>): Promise<ChildProcess> {
    const log = openSync(join(this.#folder, "rowcast.log"), "a");
    const node = spawn(rowcast!, ["serve", "--listen", `127.0.0.1:${port}`], {
      env: { ...process.env, DATABASE_URL: this.#database, ...this.setup.env, ...env },
      stdio: ["ignore", log, log],
    });
    await this.#until("rowcast.log", node, async () => (await fetch(`http://127.0.0.1:${port}/readyz`)).ok);
    return node;
  }

  async #publish(): Promise<void> {
    const port = await freePort();
    const log = openSync(join(this.#folder, "redis.log"), "a");
    const options = ["--bind", "127.0.0.1", "--port", `${port}`, "--dir", this.#folder, "--save", "", "--appendonly", "no"];
    const redis = spawn(REDIS, options, { stdio: ["ignore", log, log] });
    this.#backbone.push(redis);
    await this.#until("redis.log", redis, async () => {
      const socket = connect(port, "127.0.0.1");
      await once(socket, "connect").finally(() => socket.destroy());
      return true;
    });
    this.#stream = `redis://127.0.0.1:${port}`;
    this.#backbone.push(await this.#launch(await freePort(), { ROWCAST_PUBLISH: this.#stream }));
  }

  /** Ends rowcast: at once, or in order. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    await stop(this.#rowcast, signal);
    this.#rowcast = undefined;
  }

  /** Lets rowcast stand still, with its sockets open, or go on. */
  stand(isStill: boolean): void {
    this.#rowcast!.kill(isStill ? "SIGSTOP" : "SIGCONT");
  }

  async stop(): Promise<void> {
    await stop(this.#rowcast, "SIGTERM");
    for (const program of this.#backbone.reverse()) await stop(program, "SIGTERM");
    await stop(this.#postgres, "SIGINT");
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #begin(): Promise<void> {
    const data = join(this.#folder, "data");
    if (this.#owner) chownSync(this.#folder, this.#owner.uid, this.#owner.gid);
    // the sockets of Postgres are reached by the user that runs the tests
    chmodSync(this.#folder, 0o755);
    const initdb = ["-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"];
    execFileSync(join(this.#programs, "initdb"), initdb, { ...this.#owner, cwd: this.#folder, stdio: "pipe" });
    const log = openSync(join(this.#folder, "postgres.log"), "a");
    const settings = ["-c", "listen_addresses=", "-c", `unix_socket_directories=${this.#folder}`, "-c", "fsync=off"];
    this.#postgres = spawn(join(this.#programs, "postgres"), ["-D", data, ...settings], {
      ...this.#owner,
      cwd: this.#folder,
      stdio: ["ignore", log, log],
    });
    await this.#until("postgres.log", this.#postgres, async () => this.sql("select 1") === "1");
    this.sql(this.setup.tables);
    execFileSync(rowcast!, ["migrate", "--database-url", this.#database], { stdio: "pipe" });
    this.sql(this.setup.watch);
    if (this.setup.isGateway) await this.#publish();
    await this.serve();
  }

  /** Programs that start tell nobody when they are ready: asks until they are. */
  async #until(log: string, program: ChildProcess, isReady: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (!(await isReady().catch(() => false))) {
      if (program.exitCode !== null || performance.now() > deadline) {
        throw new Error(`it does not start:\n${readFileSync(join(this.#folder, log), "utf8")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function owner(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ["postgres", "nobody"]) {
    try {
      const id = (flag: string) => Number(execFileSync("id", [flag, name], { stdio: "pipe", encoding: "utf8" }));
      return { uid: id("-u"), gid: id("-g") };
    } catch {
      continue;
    }
  }
  throw new Error("Postgres does not run as root, and there is neither a user postgres nor nobody");
}

export async function stop(program: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (!program || program.exitCode !== null || program.signalCode !== null) return;
  const exit = once(program, "exit");
  program.kill(signal);
  await exit;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}
