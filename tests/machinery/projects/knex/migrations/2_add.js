exports.up = async (knex) => {
  await knex.schema.alterTable("Pet", (t) => {
    t.string("species").notNullable().defaultTo("cat");
    t.jsonb("notes");
  });
  await knex("Pet").update({ notes: JSON.stringify({ by: "a migration" }) });
};
exports.down = (knex) => knex.schema.alterTable("Pet", (t) => t.dropColumns("species", "notes"));
