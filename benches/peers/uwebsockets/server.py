"""uWebSockets behind socketify: its own publish to a topic, fed by asyncpg's LISTEN on the same loop. PORT says where;
PGHOST and its like, which database."""

import os

import asyncpg
from socketify import App, AppListenOptions, CompressOptions, OpCode

app = App()
app.ws("/ws", {
    "compression": CompressOptions.DISABLED,
    "max_backpressure": 64 << 20,  # nothing is dropped for a slow reader
    "idle_timeout": 960,
    "open": lambda ws: ws.subscribe("fan"),
})


async def feed():
    """Publishes what Postgres notifies."""
    app.database = await asyncpg.connect()  # kept: a connection that nobody holds is closed
    await app.database.add_listener("fan", lambda _connection, _pid, _channel, payload: app.publish("fan", payload, OpCode.TEXT, False))


app.loop.create_task(feed())
app.listen(AppListenOptions(port=int(os.environ["PORT"]), host="127.0.0.1"))
app.run()
