import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/*.test.ts", "test/*.test.tsx"],
    // a private Postgres is made in it, on a machine that may be busy
    hookTimeout: 120_000,
    testTimeout: 180_000,
    // events decide; on a machine that is busy with six other things they come late
    expect: { poll: { timeout: 60_000 } },
    restoreMocks: true,
    unstubGlobals: true,
  },
});
