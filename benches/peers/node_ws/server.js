// What a team writes first: LISTEN, and send() to every client. PORT says where; PGHOST and its like, which database.
const { Client } = require("pg");
const { WebSocket, WebSocketServer } = require("ws");

async function main() {
  let clients = new Set();
  const postgres = new Client();
  postgres.on("notification", ({ payload }) => {
    for (const client of clients) {
      if (client.readyState === WebSocket.OPEN) client.send(payload);
    }
  });
  await postgres.connect();
  await postgres.query("listen fan");

  // a client that is served from here on misses nothing
  const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 1024 });
  server.on("connection", (client) => client.on("error", () => client.terminate()));
  clients = server.clients;
}

main();
