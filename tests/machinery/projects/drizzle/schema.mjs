import { integer, pgTable, serial, text, numeric } from "drizzle-orm/pg-core";

export const pets = pgTable("Pet", {
  id: serial("id").primaryKey(),
  name: text("name").notNull(),
  weight: integer("weight").notNull(),
});
