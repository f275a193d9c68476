/** Upper bound of the first pause; it doubles with each attempt. */
export const FIRST = 2_000;
export const CAP = 30_000;
/** A socket that was open this long was no failed attempt. */
export const HEALTHY = 5_000;

/** Pauses between attempts, with full jitter: the clients of a server that was restarted come back spread out. */
export class Backoff {
  #attempts = 0;
  #openedAt = Infinity;

  opened(): void {
    this.#openedAt = performance.now();
  }

  /** Milliseconds until the next attempt. */
  next(): number {
    if (performance.now() - this.#openedAt >= HEALTHY) this.#attempts = 0;
    this.#openedAt = Infinity;
    return Math.random() * Math.min(CAP, FIRST * 2 ** this.#attempts++);
  }
}
