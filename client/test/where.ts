import { describe, test } from "vitest";

/** Tests that need what a machine may lack. There they are skipped and say why; in CI they fail. */
export function describeWhere(missing: string | undefined, name: string, tests: () => void): void {
  if (!missing) describe(name, tests);
  else if (!process.env.CI) describe.skip(`${name} (${missing})`, tests);
  else test(name, () => Promise.reject(new Error(missing)));
}
