// Shows values of any shape, such as what a page says of itself: lists in lists, as far as they go.

import { make, terms } from "./elements.js";
import { fill, link, shortened, value } from "./text.js";
import { moment } from "./words.js";

const DEEPEST = 3;

/** Return an element for a value of JSON. */
export function describe(it, depth = 0) {
  if (typeof it === "string") return described(it);
  if (typeof it !== "object" || it === null) return String(it);
  if (depth === DEEPEST) return value(JSON.stringify(it));
  if (Array.isArray(it)) return list(it, depth);
  return terms(Object.entries(it).filter(([, one]) => isSaid(one)).map(([name, one]) =>
    [nameOf(name), describe(one, depth + 1)]));
}

/** Say whether there is something in a value: null, and lists without items, say nothing. */
export function isSaid(it) {
  return it !== null && (typeof it !== "object" || Object.keys(it).length > 0);
}

function described(text) {
  if (/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(text)) return moment(text);
  return /^https?:/i.test(text) ? link(text) : value(text);
}

function list(items, depth) {
  const all = make("ul", {});
  const more = fill(all, items, (item) => make("li", {}, describe(item, depth + 1)));
  return more ? make("div", {}, all, more) : all;
}

function nameOf(name) {
  const words = /^[a-z_]+$/.test(name) ? name.replaceAll("_", " ") : name;
  return shortened(words, 80);
}
