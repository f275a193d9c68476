// Writes by the query builder, as an application does.
import { eq, gt, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import { pets } from "./schema.mjs";

const pool = new pg.Pool();
const db = drizzle(pool);
const [one] = await db.insert(pets).values(Array.from({ length: 20 }, (_, n) => ({ name: `pet ${n}`, weight: n }))).returning();
await db.update(pets).set({ weight: sql`${pets.weight} + 1` }).where(gt(pets.weight, 5));
await db.insert(pets).values({ id: one.id, name: "new", weight: 1 }).onConflictDoUpdate({ target: pets.id, set: { name: "it's an upsert" } });
await db.transaction(async (tx) => {
  await tx.delete(pets).where(eq(pets.name, "pet 3"));
  await tx.transaction(async (inner) => { await inner.delete(pets); inner.rollback(); }).catch(() => {});
});
await pool.end();
