/** Views that come and go, in React: a user's pets, the user's notifications and inbox, and how things stand. */
import { StrictMode, useState } from "react";
import { hydrateRoot } from "react-dom/client";
import { connect, type Client } from "../../src/index.js";
import { useCollection, useConnectionState, useInbox, useNotifications, useWindow } from "../../src/react.js";
import type { Pet } from "./pet.js";

type Clinic = Client<{ pets: Pet }>;

/** What was rendered, and what was sent. */
export const seen = {
  pets: [] as { user: string; owners: unknown[]; isReady: boolean }[],
  states: [] as string[],
  sent: [] as any[],
};

export function Pets({ client, user }: { client: Clinic; user: string }) {
  const { rows, isReady, error } = useCollection(client, "pets", {
    key: "pet_id",
    filter: user && `user_id=eq.${user}`,
    enabled: !!user,
  });
  seen.pets.push({ user, owners: rows.map(({ user_id }) => user_id), isReady });
  return <pre data-ready={isReady}>{error?.message ?? rows.map(({ name }) => name).join()}</pre>;
}

function Bell({ client, user }: { client: Clinic; user: string }) {
  const { notifications, isReady, clear } = useNotifications(client, user, { limit: 2 });
  return (
    <button id="bell" data-ready={isReady} onClick={clear}>
      {notifications.map((told) => told.notification_type).join()}
    </button>
  );
}

function Newest({ client }: { client: Clinic }) {
  const { rows, hasMore, loadMore } = useWindow(client, "pets", { key: "pet_id", order: "pet_id.desc", limit: 2 });
  return (
    <section>
      <b>{rows.map(({ pet_id }) => pet_id).join()}</b>
      {hasMore && <button onClick={() => loadMore()}>more</button>}
    </section>
  );
}

/** Pets that have no name yet are unread. */
function Inbox({ client, user }: { client: Clinic; user: string }) {
  const { messages, unread, hasMore, loadMore } = useInbox(client, user, { channel: "pets", key: "pet_id", readColumn: "name", limit: 2 });
  return (
    <nav>
      <b>{messages.map(({ pet_id, user_id }) => `${pet_id} of ${user_id}`).join()}</b>
      <i>{unread}</i>
      {hasMore && <button onClick={() => loadMore()}>more</button>}
    </nav>
  );
}

function Standing({ client }: { client: Clinic }) {
  const state = useConnectionState(client, { delay: 100 });
  seen.states.push(state);
  return <output>{state}</output>;
}

export function App({ client }: { client: Clinic }) {
  const [user, setUser] = useState("");
  const [isElsewhere, setElsewhere] = useState(false);
  const [hasNewest, setNewest] = useState(false);
  const [hasInbox, setInbox] = useState(false);
  return (
    <StrictMode>
      <Standing client={client} />
      <input value={user} onChange={(event) => setUser(event.target.value)} />
      <button id="elsewhere" onClick={() => setElsewhere(!isElsewhere)} />
      {isElsewhere ? <p>elsewhere</p> : <Pets client={client} user={user} />}
      <Bell client={client} user={user} />
      <button id="newest" onClick={() => setNewest(true)} />
      {hasNewest && <Newest client={client} />}
      <button id="inbox" onClick={() => setInbox(true)} />
      {hasInbox && <Inbox client={client} user={user} />}
    </StrictMode>
  );
}

const root = globalThis.document?.querySelector("main");
if (root) {
  class Logged extends WebSocket {
    override send(text: string): void {
      seen.sent.push(JSON.parse(text));
      super.send(text);
    }
  }
  const client: Clinic = connect("/", { WebSocket: Logged });
  const options = { onRecoverableError: (error: unknown) => reportError(error) };
  hydrateRoot(root, <App client={client} />, options);
  const hydrateLate = () => void hydrateRoot(document.querySelector("aside")!, <Pets client={client} user="1" />, options);
  Object.assign(globalThis, { seen, hydrateLate });
}
