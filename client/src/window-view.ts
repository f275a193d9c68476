/** A window as stores show it. Owns what is shown of its events; knows no store. */
import type { RowcastError, RowWindow, Shown } from "./index.js";
import type { Source } from "./shared.js";

/** A window at one moment. */
export interface WindowView<Row> extends Shown<Row> {
  /** the rows are those of the table */
  readonly isReady: boolean;
  /** why the rows are followed no longer */
  readonly error?: RowcastError;
  /** shows more rows, to everybody who is shown them; where it fails, `error` says why */
  loadMore(count?: number): void;
}

export const NO_WINDOW: WindowView<never> = { rows: [], hasMore: false, isLoading: false, isReady: false, loadMore() {} };

/** Follows a window, and closes it. */
export function followWindow<Row>(window: RowWindow<Row>, changed: (isLast?: boolean) => void): Source<WindowView<Row>> {
  const loadMore = (count?: number) => void window.loadMore(count).catch(() => {}); // the event has told
  let { shown } = window;
  let view: WindowView<Row> = { ...shown, isReady: false, loadMore };
  /** Also before its own listeners are told. */
  function get(): WindowView<Row> {
    if (shown !== window.shown) view = { ...view, ...(shown = window.shown) };
    return view;
  }
  function update(part: Partial<WindowView<Row>>): void {
    view = { ...get(), ...part };
    changed(view.error !== undefined);
  }
  // others may have read it by then: it stays the same object
  window.on("change", () => changed(get().error !== undefined));
  window.on("error", (error) => error.final && update({ error }));
  window.ready.then(
    () => update({ isReady: true }),
    () => {}, // the event has told, or it was closed
  );
  return { get, close: () => window.close() };
}
