// Goes on where the server has rendered the list.
const list = document.querySelector("ul");
const said = document.querySelector("p");
let { cursor } = list.dataset;

const of = (id) => list.querySelector(`[data-id="${id}"]`);

/** Applies a change. One that the page shows already does no harm: it has the whole row. */
function show({ action, data, old }) {
  if (action === "truncated") return list.replaceChildren();
  if (old) of(old.pet_id)?.remove();
  if (action === "deleted") return of(data.pet_id)?.remove();
  const item = of(data.pet_id) ?? list.appendChild(document.createElement("li"));
  item.dataset.id = data.pet_id;
  item.textContent = data.name;
}

/** Cursors that are waited for, by the number of the command. */
const waiting = new Map();
let socket;
const ask = (ref) => socket.send(JSON.stringify({ type: "sync", cursor: waiting.get(ref).cursor, ref }));

/** Resolves when the list shows all up to a cursor. */
const shown = (cursor) =>
  new Promise((done) => {
    const ref = Math.max(0, ...waiting.keys()) + 1;
    waiting.set(ref, { cursor, done });
    if (socket.readyState === WebSocket.OPEN) ask(ref);
  });

function connect() {
  socket = new WebSocket(`ws://127.0.0.1:8000/ws/pets?since=${cursor}`, "rowcast.v1");
  socket.onopen = () => [...waiting.keys()].forEach(ask);
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    // what follows the cursor is no longer kept: the server renders the page anew
    if (message.type === "gap" || message.code === "bad_cursor") return location.reload();
    if (message.type === "realtime_update") show(message);
    if (message.type === "synced") {
      waiting.get(message.ref).done();
      waiting.delete(message.ref);
    }
    if (message.cursor) cursor = message.cursor;
  };
  socket.onclose = ({ code }) => {
    if (![4400, 4403, 4404].includes(code)) setTimeout(connect, 1000 + 4000 * Math.random());
  };
}
connect();

document.querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const body = new FormData(event.target).get("name");
  const { cursor } = await (await fetch("/pets", { method: "POST", body })).json();
  await shown(cursor);
  said.textContent = `${body} is saved, and one of ${list.children.length}`;
};
