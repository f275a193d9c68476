import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Backoff, CAP, FIRST, HEALTHY } from "../src/backoff.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("pauses lie anywhere below a bound that doubles up to the cap", () => {
  for (const [random, factor] of [[0, 0], [0.5, 0.5], [0.999, 0.999]] as const) {
    vi.spyOn(Math, "random").mockReturnValue(random);
    const backoff = new Backoff();
    for (const bound of [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, CAP, CAP, CAP]) {
      expect(backoff.next()).toBeCloseTo(factor * bound);
    }
  }
});

test("a socket that was healthy begins anew, one that was lost at once does not", () => {
  vi.spyOn(Math, "random").mockReturnValue(1);
  const backoff = new Backoff();
  backoff.next();
  backoff.opened();
  vi.advanceTimersByTime(HEALTHY - 1);
  expect(backoff.next()).toBe(2 * FIRST);
  backoff.opened();
  vi.advanceTimersByTime(HEALTHY);
  expect(backoff.next()).toBe(FIRST);
  // nor does one that never opened
  vi.advanceTimersByTime(HEALTHY);
  expect(backoff.next()).toBe(2 * FIRST);
});
