/** What came and was not taken yet, for an iterator. Holds at most `limit`. */
export class Backlog<T> implements AsyncIterator<T, undefined> {
  #waiting: { value: T; place: string | undefined }[] = [];
  /** behind what the reader was given last, and deals with until it asks again */
  #place: string | undefined;
  #readers: ((result: Promise<IteratorResult<T, undefined>>) => void)[] = [];
  #end: Promise<IteratorReturnResult<undefined>> | undefined;

  constructor(
    readonly limit: number,
    /** the reader has dealt with what came up to this position; without one, with everything that came */
    readonly ondealt: (place?: string) => void,
    /** the reader left its loop */
    readonly onleave: () => void,
  ) {}

  /** Whether the reader has dealt with everything that came. */
  get isIdle(): boolean {
    return this.#readers.length > 0;
  }

  /** False where there is no room. */
  push(value: T, place: string | undefined): boolean {
    const reader = this.#readers.shift();
    if (reader) {
      this.#place = place;
      reader(Promise.resolve({ done: false, value }));
    } else if (this.#waiting.length < this.limit) this.#waiting.push({ value, place });
    else return false;
    return true;
  }

  clear(): void {
    this.#waiting = [];
    this.#place = undefined;
  }

  /** What waits can still be taken; after it comes the end, or the error. */
  end(error?: Error): void {
    const end: Promise<IteratorReturnResult<undefined>> = error
      ? Promise.reject(error)
      : Promise.resolve({ done: true, value: undefined });
    end.catch(() => {}); // nobody may be reading
    this.#end = end;
    for (const reader of this.#readers.splice(0)) reader(end);
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#place) this.ondealt(this.#place);
    const next = this.#waiting.shift();
    this.#place = next?.place;
    if (next) return Promise.resolve({ done: false, value: next.value });
    if (this.#end) return this.#end;
    return new Promise((resolve) => {
      this.#readers.push(resolve);
      this.ondealt();
    });
  }

  async return(): Promise<IteratorReturnResult<undefined>> {
    this.clear();
    this.onleave();
    return { done: true, value: undefined };
  }
}
