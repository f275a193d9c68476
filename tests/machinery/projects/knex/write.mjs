// Writes by the query builder, as an application does.
import knex from "knex";
import config from "./knexfile.js";

const db = knex(config);
await db.batchInsert("Pet", Array.from({ length: 50 }, (_, n) => ({ called: `pet ${n}`, weight: n })), 10);
await db("Pet").where("weight", ">", 5).increment("weight", 2);
await db("Pet").insert({ id: 1, called: "it's", weight: 1 }).onConflict("id").merge();
await db.transaction(async (trx) => {
  await trx("Pet").where({ called: "pet 3" }).del();
  await trx.transaction(async (inner) => { await inner("Pet").del(); throw new Error("rolled back"); }).catch(() => {});
});
await db.destroy();
