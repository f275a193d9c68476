// What the dashboard says: figures out of metrics, words out of figures. Nothing here touches the page.

/** The samples of an OpenMetrics text: name → [{ labels, value }], in the order of the text. */
export function parseMetrics(text) {
  const samples = new Map();
  for (const [, name, labelled = "", value] of text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)) {
    const pairs = [...labelled.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
    const labels = Object.fromEntries(pairs.map(([, key, text]) => [key, text]));
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels, value: Number(value) });
  }
  return samples;
}

/**
 * The value below which a part `q` of what a histogram has counted between two polls lies, taken as even inside a
 * bucket; null where nothing was counted, or the server has started anew.
 */
export function quantile(q, name, before, after) {
  const [was, now] = [before, after].map((samples) => samples.get(`${name}_bucket`) ?? []);
  const counts = now.map(({ value }, i) => value - (was[i]?.value ?? 0));
  const rank = q * (counts.at(-1) ?? 0);
  if (rank <= 0 || counts.some((count) => count < 0)) return null;
  const i = counts.findIndex((count) => count >= rank);
  const [low, below] = i > 0 ? [Number(now[i - 1].labels.le), counts[i - 1]] : [0, 0];
  if (now[i].labels.le === "+Inf") return low;
  return low + ((Number(now[i].labels.le) - low) * (rank - below)) / (counts[i] - below);
}

/** What happened between two polls, each { time, samples }: seconds, and figures by second. */
export function measure(before, after) {
  const delay = (q) => quantile(q, "rowcast_delay_seconds", before.samples, after.samples);
  const rate = (name) => {
    const [was, now] = [before, after].map(({ samples }) => samples.get(name)?.[0].value ?? 0);
    return now < was ? null : (now - was) / (after.time - before.time);
  };
  return {
    time: after.time,
    p50: delay(0.5),
    p99: delay(0.99),
    changes: rate("rowcast_source_rows_total"),
    bytes: rate("rowcast_sent_bytes_total"),
  };
}

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const inUnits = (units) => (value) => {
  if (value === null) return "–";
  const [size, unit] = units.findLast(([size]) => value >= size) ?? units[0];
  return `${numbers.format(value / size)} ${unit}`;
};

export const number = (value) => (value == null ? "–" : numbers.format(value));
export const seconds = inUnits([[0.001, "ms"], [1, "s"], [60, "min"], [3_600, "h"]]);
export const bytes = inUnits([[1, "B"], [1e3, "kB"], [1e6, "MB"], [1e9, "GB"], [1e12, "TB"]]);
export const clock = (date) => new Date(date).toLocaleTimeString(undefined, { hourCycle: "h23" });

/** How things stand. */
export function health(state, since) {
  const words = {
    asking: "Asking the server …",
    live: "Capture is live",
    source_down: `The source is down since ${clock(since)}; changes are delayed, not lost`,
    gone: `The server has not answered since ${clock(since)}; it is asked again each second`,
    refused: "Tokens are checked here; this page is for one whose role is admin",
  };
  return words[state];
}

/** How far behind it is: apart, since it changes each second and is not to be read out each time. */
export function lag(state, { lag_ms }) {
  return state === "live" && lag_ms > 0 ? `, ${seconds(lag_ms / 1_000)} behind` : "";
}

/** Who may see the channels. */
export function openness({ open_to_everybody: isOpen }) {
  if (isOpen === undefined) return "";
  return isOpen ? "Channels are open to everybody who reaches this server." : "Tokens are checked.";
}

/** Figures to show: [name, value, its unit and period]. What goes wrong is there once it has happened. */
export function figures(status, samples) {
  const gaps = samples.get("rowcast_gaps_total") ?? [];
  const wrong = [
    ["Closed as too slow", status.closed_too_slow, "sockets, code 4408, since the start"],
    ...gaps.map(({ labels, value }) => [`Gaps: ${labels.reason}`, value, "told to subscribers since the start"]),
    ["Errors", status.errors, "told to clients since the start"],
  ];
  return [
    ["Sockets", number(status.connections), "open now"],
    ["Users", number(status.users), "with a socket now"],
    ["Messages", number(status.messages), "since the server's start"],
    ["Sent", bytes(status.bytes_sent), "since the server's start"],
    ...wrong.filter(([, value]) => value > 0).map(([name, value, unit]) => [name, number(value), unit]),
  ];
}

/** What a word about the past is called when the present is not known. */
export const was = (word, isCurrent) => (isCurrent || word === "–" ? word : `was ${word}`);

/** Channels by name: those that the server has, with what the database says of them. */
export function channelsOf(status, watched) {
  const known = new Map(watched.map((row) => [row.channel, row]));
  const names = new Set([...Object.keys(status.channels), ...known.keys()]);
  return [...names].sort().map((name) => ({ name, subscribers: status.channels[name], ...known.get(name) }));
}

/** A channel's table, in a line. */
export function source({ table, user_rule: rule, exclude = [] }) {
  if (table === null) return "no table, by rowcast.publish";
  const users = rule && `users by ${/\s/.test(rule) ? "a query" : rule}`;
  return [table, users, exclude.length > 0 && `without ${exclude.join(", ")}`].filter(Boolean).join(" · ");
}

/** What is wrong with a channel; the SQL that it ends with is shown apart. */
export const wrong = ({ drift }) => drift?.replace(/[;:] (alter|select) .*$/, "");

export const isSql = (text) => /^(select|alter|create|drop|grant|revoke)\s/.test(text);

/** The row of a change: [text, whether the column has changed]. The first column, mostly the key, comes first. */
export function pieces({ data, changed = [] }) {
  if (data === null || typeof data !== "object" || Array.isArray(data)) return [[cut(JSON.stringify(data)), false]];
  const columns = Object.keys(data);
  const inOrder = new Set([...columns.slice(0, 1), ...changed.filter((column) => column in data), ...columns]);
  return [...inOrder].map((column) => [cut(`${column}: ${JSON.stringify(data[column])}`), changed.includes(column)]);
}

const cut = (text) => (text.length > 500 ? `${text.slice(0, 500)}…` : text);

/** Whether a change is one that was asked for: of a channel, with a text in it. */
export function fits(change, channel, text) {
  if (channel && change.entity_type !== channel) return false;
  const words = () => [change.entity_type, change.action, change.actor, JSON.stringify(change.data)].join(" ");
  return !text || words().toLowerCase().includes(text.toLowerCase());
}
