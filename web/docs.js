// The descriptions of messages and routes, for people. Owns how they look; all that they say goes in as text.

const $ = (id) => document.getElementById(id);
const isWide = matchMedia("(min-width: 60rem)");

/** An element with attributes and content: elements, texts, lists of them; nothing for what is not there. */
function element(name, attributes, ...content) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...content.flat(Infinity).filter(Boolean));
  return made;
}

/** A line of a description: what stands in backticks is code. */
function line(text) {
  return text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));
}

/** Paragraphs and lists. */
function prose(text = "") {
  return text.split("\n\n").filter(Boolean).map((block) =>
    block.startsWith("- ")
      ? element("ul", {}, block.slice(2).split("\n- ").map((item) => element("li", {}, line(item))))
      : element("p", {}, line(block)),
  );
}

/** A table of two columns. A row: its name, small words below it, its meaning. */
function table(caption, heads, rows, kind = "fields") {
  if (rows.length === 0) return null;
  const head = element("tr", {}, heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map(([name, small, meaning]) => {
    const first = element("th", { scope: "row" }, element("code", {}, name), small && element("small", {}, small));
    return element("tr", {}, first, element("td", {}, meaning));
  });
  const parts = [element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, body)];
  return element("table", { class: kind }, parts);
}

/** A message as it is on the wire, in several lines where it is long; or a text. */
function example(payload) {
  const json = JSON.stringify(payload, null, JSON.stringify(payload).length < 100 ? 0 : 2);
  const text = typeof payload === "string" ? payload.trimEnd() : json;
  return [element("h4", {}, "Example"), element("pre", {}, text)];
}

/** A document whose references can be followed. */
class Description {
  constructor(root) {
    this.root = root;
  }

  /** What is meant, where it is said elsewhere. */
  get(value) {
    if (!value?.$ref) return value;
    const names = value.$ref.slice(2).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
    return this.get(names.reduce((within, name) => within[name], this.root));
  }

  /** The type of a value, for people. */
  typeOf(schema) {
    const { type, enum: values, items, anyOf, oneOf } = this.get(schema);
    if (type === "array") return `array of ${items ? this.typeOf(items).replace(/^(\w+)/, "$1s") : "any JSON"}`;
    if (type) return [type].flat().join(" or ");
    if (values) return [...new Set(values.map((value) => typeof value))].join(" or ");
    const choices = (anyOf ?? oneOf ?? []).map((each) => (this.get(each).const ? "string" : this.typeOf(each)));
    return [...new Set(choices)].join(" or ") || "any JSON";
  }

  /** The values that a field may have, each with its meaning. */
  #valuesOf({ const: only, enum: values, oneOf = [], anyOf = [] }) {
    if (only !== undefined) return element("code", {}, only);
    const named = [...oneOf, ...anyOf].filter((each) => each.const !== undefined);
    const all = values ? values.map((value) => ({ const: value })) : named;
    if (all.length === 0) return null;
    const item = ({ const: value, description }) =>
      element("li", {}, element("code", {}, value || '""'), description && [": ", line(description)]);
    return element("ul", {}, all.map(item));
  }

  /** What is to be said of a value beside its name. */
  meaningOf(schema, description = this.get(schema).description) {
    return [prose(description), this.#valuesOf(this.get(schema))];
  }

  /** Rows for the fields of an object, those of objects in it among them. */
  fieldsOf(schema, prefix = "") {
    const { oneOf, allOf = [], required = [], ...its } = this.get(schema);
    const properties = Object.assign({}, its.properties, ...allOf.map((each) => this.get(each).properties));
    if (oneOf && !this.get(oneOf[0]).properties) return [];
    if (oneOf) return this.fieldsOf(this.#merged(oneOf), prefix);
    return Object.entries(properties).flatMap(([name, field]) => {
      const meant = this.get(field);
      const small = this.typeOf(field) + (required.includes(name) ? "" : ", optional");
      const isList = meant.type === "array" && meant.items;
      const inner = this.fieldsOf(isList ? meant.items : field, `${prefix}${name}${isList ? "[]" : ""}.`);
      return [[prefix + name, small, this.meaningOf(field)], ...inner];
    });
  }

  /** One object in place of several that it may be. */
  #merged(choices) {
    const all = choices.map((choice) => this.get(choice));
    const required = all[0].required.filter((name) => all.every((each) => each.required.includes(name)));
    return { properties: Object.assign({}, ...all.map((each) => each.properties).reverse()), required };
  }
}

/** A part of the page with a heading, which the contents lead to. */
function part(level, id, title, ...content) {
  const link = element("a", { href: `#${id}`, "aria-label": `Link to ${title}` }, "#");
  const heading = element(`h${level}`, {}, level === 3 ? element("code", {}, title) : title, link);
  return element(level === 2 ? "section" : "article", { id, "data-title": title }, heading, content);
}

function lead({ summary, description }) {
  return [element("p", {}, element("strong", {}, line(summary))), prose(description)];
}

function socketOf(api, [key, channel]) {
  const inPath = Object.entries(channel.parameters ?? {}).map(([name, parameter]) => {
    return [name, "in the path", prose(parameter.description)];
  });
  const query = Object.entries(channel.bindings.ws.query.properties).map(([name, schema]) => {
    return [`?${name}=`, `${api.typeOf(schema)}, optional`, api.meaningOf(schema)];
  });
  const parameters = table("Parameters", ["Parameter", "Meaning"], [...inPath, ...query]);
  return part(3, `socket-${key}`, channel.address, prose(channel.description), parameters);
}

function messageOf(api, kind, key, answer) {
  const message = api.root.components.messages[key];
  const answers = answer && [element("h4", {}, "Answer"), prose(answer)];
  const fields = table("Fields", ["Field", "Meaning"], api.fieldsOf(message.payload));
  const examples = message.examples.map(({ payload }) => example(payload));
  return part(3, `${kind}-${key}`, message.name, lead(message), answers, fields, examples);
}

/** The names of messages that go one way. */
function messagesOf(api, action) {
  const operations = Object.values(api.root.operations).filter((operation) => operation.action === action);
  return [...new Set(operations.flatMap(({ messages }) => messages.map(({ $ref }) => $ref.split("/").at(-1))))];
}

function routeOf(api, path, method, operation) {
  const parameters = (operation.parameters ?? []).map((each) => {
    const { name, in: place, required, description, schema } = api.get(each);
    const small = (place === "query" ? api.typeOf(schema) : `in the ${place}`) + (required ? "" : ", optional");
    return [place === "query" ? `?${name}=` : name, small, api.meaningOf(schema, description)];
  });
  const responses = Object.entries(operation.responses).map(([status, response]) => [status, api.get(response)]);
  const statuses = responses.map(([status, { description, content, headers }]) => {
    const more = [...Object.keys(content ?? {}).map((type) => type.split(";")[0]), ...Object.keys(headers ?? {})];
    return [status, "", [prose(description), more.length > 0 && element("small", {}, more.join(", "))]];
  });
  const bodies = responses.flatMap(([status, { content }]) => {
    return Object.values(content ?? {}).map((body) => [
      table(`Fields of the answer ${status}`, ["Field", "Meaning"], api.fieldsOf(body.schema)),
      body.example && example(body.example),
    ]);
  });
  const isOpen = operation.security?.every((each) => Object.keys(each).length === 0);
  const title = `${method.toUpperCase()} ${path}`;
  const tables = [
    table("Parameters", ["Parameter", "Meaning"], parameters),
    table("Statuses", ["Status", "Meaning"], statuses, "statuses"),
  ];
  const token = isOpen && element("p", {}, "Needs no token.");
  return part(3, `route-${operation.operationId}`, title, lead(operation), token, tables, bodies);
}

function tokensOf(...apis) {
  const schemes = Object.assign({}, ...apis.map((api) => api.root.components.securitySchemes));
  const rows = Object.entries(schemes).map(([name, scheme]) => [name, "", prose(scheme.description)]);
  return table("Where a token may be, if the server checks tokens", ["Name", "Place"], rows);
}

function page(sockets, routes) {
  const { channels, operations, "x-close-codes": codes } = sockets.root;
  const closes = codes.map(({ code, final, meaning, client }) => {
    return [String(code), final && "final", [prose(meaning), element("small", {}, `The client ${client}`)]];
  });
  const finality = "Final: to connect again in the same way ends in the same way";
  const closing = table(finality, ["Code", "Meaning, and what the client does"], closes, "statuses");
  const answer = (command) => operations[command]?.description;
  const commands = messagesOf(sockets, "receive").map((key) => messageOf(sockets, "command", key, answer(key)));
  const messages = messagesOf(sockets, "send").map((key) => messageOf(sockets, "message", key));
  const all = Object.entries(routes.root.paths).flatMap(([path, item]) => {
    return Object.entries(item).map(([method, operation]) => [operation.tags[0], path, method, operation]);
  });
  const tags = routes.root.tags.map(({ name, description }) => {
    const its = all.filter(([tag]) => tag === name).map(([, ...route]) => routeOf(routes, ...route));
    return part(2, `tag-${name.toLowerCase().replaceAll(" ", "-")}`, name, prose(description), its);
  });
  return [
    part(2, "about", "About", prose(sockets.root.info.description), tokensOf(sockets, routes)),
    part(2, "sockets", "Sockets", Object.entries(channels).map((channel) => socketOf(sockets, channel))),
    part(2, "commands", "Commands from the client", commands),
    part(2, "messages", "Messages from the server", messages),
    part(2, "closes", "Close codes", element("article", {}, closing)),
    part(2, "routes", "Routes", prose(routes.root.info.description)),
    tags,
  ].flat();
}

function linksTo(parts) {
  const link = ({ id, dataset }) => element("a", { href: `#${id}` }, dataset.title);
  return parts.map((each) => {
    const inner = [...each.querySelectorAll("article[id]")].map((article) => element("li", {}, link(article)));
    return element("li", {}, link(each), inner.length > 0 && element("ul", {}, inner));
  });
}

/** In the contents, marks what is read. */
function follow(parts) {
  const observer = new IntersectionObserver(
    (entries) => {
      const seen = entries.find((entry) => entry.isIntersecting)?.target;
      if (!seen) return;
      const link = $("links").querySelector(`[href="#${seen.id}"]`);
      $("links").querySelector("[aria-current]")?.removeAttribute("aria-current");
      link.setAttribute("aria-current", "location");
      if (isWide.matches) link.scrollIntoView({ block: "nearest" });
    },
    { rootMargin: "-12% 0px -87%" },
  );
  const without = parts.filter((each) => !each.querySelector("article[id]"));
  for (const each of [...without, ...document.querySelectorAll("article[id]")]) observer.observe(each);
}

async function load(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return new Description(await answer.json());
}

const unfold = () => ($("contents").open = isWide.matches);
isWide.addEventListener("change", unfold);
unfold();
$("links").addEventListener("click", unfold);

try {
  const parts = page(...(await Promise.all(["/asyncapi.json", "/openapi.json"].map(load))));
  $("links").replaceChildren(...linksTo(parts));
  $("main").replaceChildren(...parts);
  follow(parts);
  if (location.hash) $(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
} catch (error) {
  $("state").className = "alert";
  $("state").textContent = `The descriptions cannot be shown. ${error.message}`;
}
