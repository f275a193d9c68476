import { createRoot } from "react-dom/client";
import { connect } from "rowcast-client";
import { useCollection, useConnectionState } from "rowcast-client/react";

// in a module of its own, once the page has more than one component
const client = connect("http://127.0.0.1:8000");

function Pets() {
  const { rows, isReady, error } = useCollection(client, "pets", { key: "pet_id" });
  if (error) return <p role="alert">{error.message}</p>;
  if (!isReady) return <p>…</p>;
  const pets = rows.toSorted((a, b) => a.name.localeCompare(b.name));
  return (
    <>
      <h1>{pets.length} pets</h1>
      <ul>{pets.map((pet) => <li key={pet.pet_id}>{pet.name}</li>)}</ul>
    </>
  );
}

/** A short break is no news; a long one is. */
function Connection() {
  const state = useConnectionState(client, { delay: 500 });
  return state === "live" || state === "idle" ? null : <p role="status">not up to date: {state}</p>;
}

createRoot(document.getElementById("root")).render(<><Connection /><Pets /></>);
