const { PGHOST: host, PGPORT: port, PGUSER: user, PGDATABASE: database } = process.env;

module.exports = { client: "pg", connection: { host, port: Number(port), user, database } };
