// Writes by the client, as an application does.
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "@prisma/client";

const place = { host: process.env.PGHOST, port: Number(process.env.PGPORT), user: process.env.PGUSER, database: process.env.PGDATABASE, allowExitOnIdle: true };
const prisma = new PrismaClient({ adapter: new PrismaPg(place) });
await prisma.pet.createMany({ data: Array.from({ length: 20 }, (_, n) => ({ name: `pet ${n}`, weight: n })) });
const one = await prisma.pet.create({ data: { name: "it's", weight: 1, notes: { a: [1, null] } } });
await prisma.pet.update({ where: { id: one.id }, data: { weight: { increment: 2 } } });
await prisma.pet.upsert({ where: { id: one.id }, create: { name: "new", weight: 1 }, update: { name: "upsert" } });
await prisma.pet.updateMany({ where: { weight: { gt: 5 } }, data: { species: "dog" } });
await prisma.$transaction([prisma.pet.delete({ where: { id: one.id } }), prisma.pet.create({ data: { name: "together", weight: 3 } })]);
await prisma.$transaction(async (inner) => {
  await inner.pet.create({ data: { name: "never", weight: 1 } });
  throw new Error("rolled back");
}).catch((error) => { if (error.message !== "rolled back") throw error; });
await prisma.$disconnect();
