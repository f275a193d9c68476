// Renders a list, and the position at which its rows were read. Node 20 or later.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import pg from "pg";

const HERE = new URL("http://127.0.0.1:3000");
const database = new pg.Pool({ connectionString: process.env.DATABASE_URL });

/** One statement: what it does not see comes after the cursor. */
const LIST = `select rowcast.cursor(), (select coalesce(json_agg(p order by p.pet_id), '[]') from pets p) as pets`;

const safe = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
const item = ({ pet_id, name }) => `<li data-id="${pet_id}">${safe(name)}</li>`;
const page = ({ cursor, pets }) => `<!doctype html>
<meta charset="utf-8">
<title>Pets</title>
<ul data-cursor="${cursor}">${pets.map(item).join("")}</ul>
<form><input name="name" value="Kira"><button id="add">add</button></form>
<p></p>
<script type="module" src="/page.mjs"></script>
`;

async function answer(request, response) {
  const { pathname } = new URL(request.url, HERE);
  if (pathname === "/pets" && request.method === "POST") {
    let name = "";
    for await (const part of request) name += part;
    await database.query("insert into pets (name) values ($1)", [name]);
    // after the commit: at this position the row is there
    const { rows } = await database.query("select rowcast.cursor()");
    response.setHeader("content-type", "application/json").end(JSON.stringify(rows[0]));
  } else if (pathname === "/page.mjs") {
    response.setHeader("content-type", "text/javascript").end(readFileSync(new URL("page.mjs", import.meta.url)));
  } else if (pathname === "/") {
    const { rows } = await database.query(LIST);
    response.setHeader("content-type", "text/html; charset=utf-8").end(page(rows[0]));
  } else {
    response.writeHead(404).end();
  }
}

createServer((request, response) => {
  answer(request, response).catch((error) => response.writeHead(500).end(error.message));
}).listen(HERE.port, HERE.hostname, () => console.log(`open ${HERE}`));
