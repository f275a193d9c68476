const { PGHOST: host, PGPORT: port, PGUSER: user, PGDATABASE: database } = process.env;

export default { dialect: "postgresql", schema: "./schema.mjs", out: "./migrations", dbCredentials: { host, port: Number(port), user, database, ssl: false } };
