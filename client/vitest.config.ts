import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/*.test.ts"],
    // a private Postgres is made in it, on a machine that may be busy
    hookTimeout: 60_000,
    testTimeout: 20_000,
    restoreMocks: true,
    unstubGlobals: true,
  },
});
