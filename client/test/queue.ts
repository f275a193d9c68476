/** What came, and the callers that wait for it. */
export class Queue<T> {
  #values: T[] = [];
  #waiting: ((value: T) => void)[] = [];

  push(value: T): void {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(value);
    else this.#values.push(value);
  }

  next(): Promise<T> {
    if (this.#values.length > 0) return Promise.resolve(this.#values.shift()!);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** What came and was not taken. */
  get rest(): readonly T[] {
    return this.#values;
  }
}
