import type { Socket } from "./socket.js";

/**
 * An event stream in a socket's place, for networks that let no WebSocket through. Its commands are its request: to say
 * something else takes another one.
 */
export class Stream implements Socket {
  readyState = 0;
  onopen: ((event: any) => void) | null = null;
  onmessage: ((event: any) => void) | null = null;
  onclose: ((event: any) => void) | null = null;
  onerror: ((event: any) => void) | null = null;
  readonly #abort = new AbortController();

  /** `base` is that of sockets; `commands` are one a line */
  constructor(base: string, token: string | undefined, commands: string) {
    const query = token === undefined ? "" : `&token=${encodeURIComponent(token)}`;
    void this.#run(`${base.replace(/^ws/, "http")}/sse?cuts=true${query}`, commands);
  }

  send(): void {}

  close(): void {
    this.#abort.abort();
  }

  async #run(url: string, body: string): Promise<void> {
    let closed = { code: 1006, reason: "" };
    try {
      // no type, no header of its own: so a page of another origin needs not ask whether it may ask
      const answer = await fetch(url, { method: "POST", body, signal: this.#abort.signal });
      const { status, headers } = answer;
      if (!/event-stream/.test(headers.get("content-type")!)) {
        // why a socket would be closed. Another that answers in the server's place says none, and it is tried again
        const code = +headers.get("rowcast-code")! || 1006;
        closed = { code, reason: `${status} ${(await answer.text()).slice(0, 80)}` };
        return;
      }
      const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
      this.readyState = 1;
      this.onopen?.({});
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) return;
        const events = (rest + value).split("\n\n");
        rest = events.pop()!;
        for (const event of events) {
          // what stands in front of it has no such text. Not by lines of a pattern: to it U+2028 in a row's text ends one, too
          const data = /data: ([^\n]*)/.exec(event)?.[1];
          if (event.startsWith("event: close")) closed = JSON.parse(data!);
          else if (data) this.onmessage?.({ data });
        }
      }
    } catch {
      // it is lost
    } finally {
      this.readyState = 3;
      this.onclose?.(closed);
    }
  }
}
