// Elements in one line.

/** An element with properties, `data` and ARIA attributes, listeners (`onclick` …) and what is in it. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "data") Object.assign(element.dataset, value);
    else if (name.includes("-") || name === "for" || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A table: titles of the columns, then rows of cells, each a text or a node; the first cell of a row names it. */
export function table(titles, rows) {
  const head = make("thead", {}, make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title))));
  const body = make("tbody", {}, ...rows.map(([first, ...cells]) => make("tr", {}, make("th", { scope: "row" }, first), ...cells.map((cell) => make("td", {}, cell ?? "–")))));
  return make("table", {}, head, body);
}

/** A part of a tab by its name in the template. */
export const part = (root, name) => root.querySelector(`[data-part="${name}"]`);

/** A button of a tab by what it does. */
export const act = (root, name) => root.querySelector(`[data-act="${name}"]`);

/** A number with so many digits after the point, or a dash. */
export const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits) : "–");

/** A time as the page's language writes it, to the minute. */
export const moment = (iso) => new Date(iso).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });

/** Bytes as people read them. */
export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  const mib = count / 2 ** 20;
  return count >= 2 ** 30 ? `${(count / 2 ** 30).toFixed(2)} GiB` : `${mib.toFixed(mib < 10 ? 1 : 0)} MiB`;
}
