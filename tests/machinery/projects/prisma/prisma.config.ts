// Prisma's schema engine as WebAssembly, over the driver pg: the native engine comes from a server of its own, not from npm.
import { randomUUID } from "node:crypto";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { defineConfig } from "prisma/config";

const place = { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE, allowExitOnIdle: true };

// The adapter knows the types of applications, not "char", name and name[] of the catalogue, which the engine reads.
const TEXT: Record<number, number> = { 18: 25, 19: 25, 1003: 1009 };
for (const each of [pg.Client, pg.Pool]) {
  const plain = each.prototype.query;
  each.prototype.query = function (...words: unknown[]) {
    const made = plain.apply(this, words);
    return made?.then?.((result) => {
      for (const field of result?.fields ?? []) field.dataTypeID = TEXT[field.dataTypeID] ?? field.dataTypeID;
      return result;
    }) ?? made;
  };
}

// The adapter's own drops the shadow database while it is still connected to it.
class Factory extends PrismaPg {
  async connectToShadowDb() {
    const database = `shadow_${randomUUID()}`;
    const admin = await this.connect();
    await admin.executeScript(`CREATE DATABASE "${database}"`);
    const shadow = await new PrismaPg({ ...place, database }).connect();
    const end = shadow.dispose.bind(shadow);
    shadow.dispose = async () => {
      await end();
      await admin.executeScript(`DROP DATABASE "${database}"`);
      await admin.dispose();
    };
    return shadow;
  }
}

export default defineConfig({ schema: "schema.prisma", experimental: { adapter: true }, engine: "js", adapter: async () => new Factory(place) });
