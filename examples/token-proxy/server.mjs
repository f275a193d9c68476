// Logs people in, gives out tokens, and passes sockets on to rowcast. Node 20 or later, no packages.
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { connect } from "node:net";

const ROWCAST = new URL("http://127.0.0.1:8000");
const HERE = new URL("http://127.0.0.1:3000");
const SECRET = process.env.ROWCAST_JWT_SECRET;
if (!SECRET) throw new Error("ROWCAST_JWT_SECRET is missing: give rowcast serve and this server the same one");

/** Cookie → user. A real server keeps them where they outlive it, and asks for a password. */
const sessions = new Map();
const userOf = (request) => sessions.get(/session=([\w-]+)/.exec(request.headers.cookie ?? "")?.[1]);

/** A token of five minutes. The client asks for the next one before it ends; the socket stays open. */
function token(user) {
  const part = (json) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: "HS256" })}.${part({ sub: user, role: "owner", iat: now, exp: now + 300 })}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, HERE);
  if (pathname === "/login") {
    const session = randomUUID();
    sessions.set(session, searchParams.get("user"));
    response.writeHead(303, { location: "/", "set-cookie": `session=${session}; HttpOnly; SameSite=Lax` }).end();
  } else if (pathname === "/token") {
    const user = userOf(request);
    response.writeHead(user ? 200 : 401, { "cache-control": "no-store" }).end(user ? token(user) : "log in first");
  } else if (pathname === "/rowcast.js") {
    ask(new URL(pathname, ROWCAST), (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    }).on("error", () => response.writeHead(502).end()).end();
  } else if (pathname === "/") {
    response.setHeader("content-type", "text/html; charset=utf-8").end(readFileSync(new URL("index.html", import.meta.url)));
  } else {
    response.writeHead(404).end();
  }
});

// A browser without a session opens no socket. What a socket may see, its token says to rowcast.
server.on("upgrade", (request, browser, head) => {
  if (!userOf(request)) return browser.end("HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n");
  const rowcast = connect(ROWCAST.port, ROWCAST.hostname);
  rowcast.write(`GET ${request.url} HTTP/1.1\r\n`);
  for (let at = 0; at < request.rawHeaders.length; at += 2) {
    rowcast.write(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}\r\n`);
  }
  rowcast.write("\r\n");
  rowcast.write(head);
  browser.pipe(rowcast).pipe(browser);
  browser.on("error", () => rowcast.destroy());
  rowcast.on("error", () => browser.destroy());
});

server.listen(HERE.port, HERE.hostname, () => console.log(`open ${HERE}`));
