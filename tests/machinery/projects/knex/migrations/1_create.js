exports.up = (knex) => knex.schema.createTable("Pet", (t) => {
  t.increments();
  t.string("name", 50).notNullable();
  t.integer("weight").notNullable();
});
exports.down = (knex) => knex.schema.dropTable("Pet");
