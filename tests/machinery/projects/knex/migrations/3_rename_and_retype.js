exports.up = (knex) => knex.schema.alterTable("Pet", (t) => {
  t.renameColumn("name", "called");
  t.decimal("weight", 8, 2).notNullable().alter();
});
exports.down = (knex) => knex.schema.alterTable("Pet", (t) => {
  t.renameColumn("called", "name");
  t.integer("weight").notNullable().alter();
});
