/** The same list in React, twice, and one that is filtered by what is typed. */
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { connect } from "../../src/index.js";
import { useCollection } from "../../src/react.js";
import { textOf, type Pet } from "./pet.js";

const client = connect<{ pets: Pet }>("/");

function Pets({ user }: { user?: string }) {
  const filter = user && (`user_id=eq.${user}` as const);
  const { rows, isReady, error } = useCollection(client, "pets", { key: "pet_id", filter });
  if (error) return <p>{error.message}</p>;
  return <pre data-ready={isReady}>{textOf(rows)}</pre>;
}

function App() {
  const [user, setUser] = useState("1");
  return (
    <>
      <Pets />
      <Pets />
      <input value={user} onChange={(event) => setUser(event.target.value)} />
      <Pets user={user} />
    </>
  );
}

createRoot(document.body.appendChild(document.createElement("main"))).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
