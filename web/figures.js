// What the dashboard says: figures out of metrics, words out of figures. Nothing here touches the page.

/** The samples of an OpenMetrics text: name → [{ labels, value }], in the order of the text. */
export function parseMetrics(text) {
  const samples = new Map();
  const line = /^(\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/gm;
  for (const [, name, labelled = "", value] of text.matchAll(line)) {
    const labels = {};
    for (const [, key, escaped] of labelled.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key] = escaped.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    }
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels, value: numberOf(value) });
  }
  return samples;
}

const numberOf = (text) => (text === "+Inf" ? Infinity : Number(text));

/** The sum of a metric over its labels. */
export function total(samples, name) {
  return (samples.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);
}

/**
 * The value below which a part `q` of what a histogram has counted between two polls lies, taken as even inside a
 * bucket; null where nothing was counted, or the server has started anew.
 */
export function quantile(q, name, before, after) {
  const bounds = (after.get(`${name}_bucket`) ?? []).map(({ labels }) => numberOf(labels.le));
  const was = before.get(`${name}_bucket`) ?? [];
  const counts = (after.get(`${name}_bucket`) ?? []).map(({ value }, i) => value - (was[i]?.value ?? 0));
  const all = counts.at(-1) ?? 0;
  if (all <= 0 || counts.some((count) => count < 0)) return null;
  const i = counts.findIndex((count) => count >= q * all);
  const [low, below] = i > 0 ? [bounds[i - 1], counts[i - 1]] : [0, 0];
  return bounds[i] === Infinity ? low : low + ((bounds[i] - low) * (q * all - below)) / (counts[i] - below);
}

/** What happened between two polls: { time, samples }, times in seconds. */
export function measure(before, after) {
  const rate = (name) => {
    const grown = total(after.samples, name) - total(before.samples, name);
    return grown < 0 ? null : grown / (after.time - before.time);
  };
  const delay = (q) => quantile(q, "rowcast_delay_seconds", before.samples, after.samples);
  return {
    time: after.time,
    p50: delay(0.5),
    p99: delay(0.99),
    changes: rate("rowcast_source_rows_total"),
    bytes: rate("rowcast_sent_bytes_total"),
  };
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });

/** 1,234; 12; 3.4; 0.25 */
export const count = (value) => (value >= 10 ? whole : short).format(value);

const inUnits = (units) => (value) => {
  if (value === null) return "–";
  const [size, unit] = units.findLast(([size]) => value >= size) ?? units[0];
  return `${count(value / size)} ${unit}`;
};
export const span = inUnits([[0.001, "ms"], [1, "s"], [60, "min"], [3600, "h"]]);
export const bytes = inUnits([[1, "B"], [1e3, "kB"], [1e6, "MB"], [1e9, "GB"], [1e12, "TB"]]);
export const clock = (date) => new Date(date).toLocaleTimeString(undefined, { hourCycle: "h23" });

/** How things stand, in words. The lag is apart: it changes each second, and is not to be read out each time. */
export function health(state, since, status) {
  switch (state) {
    case "live": {
      const lag = status.lag_ms > 0 ? `, ${span(status.lag_ms / 1000)} behind` : "";
      return { words: "Capture is live", lag };
    }
    case "source_down":
      return { words: `The source is down since ${clock(since)}; changes are delayed, not lost`, lag: "" };
    case "gone":
      return { words: `The server has not answered since ${clock(since)}; it is asked again`, lag: "" };
    case "refused":
      return { words: "This server tells nothing without a token", lag: "" };
  }
  return { words: "Asking the server …", lag: "" };
}

/** Who may see the channels. */
export function openness({ open_to_everybody: isOpen }) {
  if (isOpen === undefined) return "";
  return isOpen ? "Channels are open to everybody who reaches this server." : "Tokens are checked.";
}

/** Figures to show: [name, value, which unit and period]. What went wrong is there once it has happened. */
export function figures(status, samples) {
  const wrong = [["Closed as too slow", status.closed_too_slow, "sockets, code 4408"]];
  for (const { labels, value } of samples.get("rowcast_gaps_total") ?? []) {
    wrong.push([`Gaps: ${labels.reason}`, value, "told to subscribers"]);
  }
  wrong.push(["Errors", status.errors, "told to clients"]);
  return [
    ["Sockets", count(status.connections), "open now, with this page's"],
    ["Users", count(status.users), "with a socket now"],
    ["Messages", count(status.messages), "since the server's start"],
    ["Sent", bytes(status.bytes_sent), "since the server's start"],
    ...wrong.filter(([, value]) => value > 0).map(([name, value, what]) => [name, count(value), `${what} since the start`]),
  ];
}

/** Channels by name: those that the server has, with what the database says of them. */
export function channelsOf(status, watched) {
  const known = new Map(watched.map((row) => [row.channel, row]));
  const names = new Set([...Object.keys(status.channels), ...known.keys()]);
  return [...names].sort().map((name) => ({ name, subscribers: status.channels[name], ...known.get(name) }));
}

/** A channel's table, in a line. */
export function source({ table, user_rule: rule, exclude = [] }) {
  if (table === undefined) return "";
  if (table === null) return "no table, by rowcast.publish";
  const users = rule && `users by ${/\s/.test(rule) ? "a query" : rule}`;
  return [table, users, exclude.length > 0 && `without ${exclude.join(", ")}`].filter(Boolean).join(" · ");
}

/** The SQL that mends a channel, where it is known. */
export function mend({ table, drift, remedy }) {
  if (remedy || !drift) return remedy || "";
  const disabled = /^triggers disabled: (.*?); alter table/.exec(drift);
  if (!disabled) return /select rowcast\..*;/.exec(drift)?.[0] ?? "";
  const enable = (trigger) => {
    const [name, on = table] = trigger.split(" on ");
    return `alter table ${on} enable trigger "${name}";`;
  };
  return disabled[1].split(", ").map(enable).join("\n");
}

export const isSql = (text) => /^(select|alter|create|drop|grant|revoke)\s/.test(text);

/** The longest row that is shown whole. */
const LONGEST = 2_000;

/** What a change says of its row: [text, whether the column has changed], the row's first column (its key) first. */
export function pieces({ data, changed = [] }) {
  if (data === null || typeof data !== "object" || Array.isArray(data)) return [[JSON.stringify(data), false]];
  const columns = Object.keys(data);
  const first = new Set([columns[0], ...changed].filter((column) => column in data));
  const shown = [];
  let length = 0;
  for (const column of new Set([...first, ...columns])) {
    const text = `${column}: ${JSON.stringify(data[column])}`.slice(0, LONGEST);
    shown.push([text, changed.includes(column)]);
    if ((length += text.length) > LONGEST) return [...shown, ["…", false]];
  }
  return shown;
}

/** Whether a change is one that was asked for: of a channel, with a text in it. */
export function fits(change, channel, text) {
  if (channel && change.entity_type !== channel) return false;
  if (!text) return true;
  const words = [change.entity_type, change.action, change.actor ?? "", JSON.stringify(change.data)].join(" ");
  return words.toLowerCase().includes(text.toLowerCase());
}
