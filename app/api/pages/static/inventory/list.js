// The list of pages: filters that apply as one types, further pages on demand, quiet refreshes.

import { address, now, read } from "./api.js";
import { byId, make, say } from "./elements.js";
import { words } from "./news.js";
import { pause, repeat } from "./repeating.js";
import { shortened } from "./text.js";
import { age, isPending, size, statusWords } from "./words.js";

const PAGE = 50;
const MOST_AT_ONCE = 100; // what one call may ask for
const MOST_REREAD = 200; // pages below these are not read again by a refresh
const MOST_CALLS = 5; // answers may be short or empty though more is to come
const REFRESH_SECONDS = 3;
const TYPING_SECONDS = 0.3;

export class PageList {
  #form = byId("filters");
  #body = byId("list");
  #rows = new Map(); // by URL
  #pages = [];
  #next = null;
  #filters = null; // those that the pages fit, as text
  #given = new AbortController(); // gives up what is being read
  #reading = null; // what is being read, as a promise
  #typing = 0;
  #expected = 0; // requests whose pages may not be listed yet

  constructor() {
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("input", () => this.#afterTyping());
    this.#form.addEventListener("reset", () => setTimeout(() => this.#filter())); // once it is done
    byId("more").addEventListener("click", () => this.#more());
    byId("reload").addEventListener("click", () => this.refresh());
    repeat(REFRESH_SECONDS, () => this.#mayChange() ? this.refresh() : 0);
  }

  /** Show the pages that fit the filters of an address. */
  show(place) {
    for (const field of this.#fields()) field.value = place.get(field.name) ?? "";
    return this.#start();
  }

  /** Read the list again, once nothing else is being read. Returns the seconds to wait. */
  async refresh() {
    for (let last; last !== this.#reading;) await (last = this.#reading);
    return this.#start();
  }

  /** Refresh while something is awaited that may not be listed yet. */
  async whileAwaiting(answer) {
    this.#expected += 1;
    try {
      pause(0.3).then(() => this.refresh());
      return await answer;
    } finally {
      this.#expected -= 1;
      this.refresh();
    }
  }

  /** Give the focus to a page of the list, if it is there. */
  focus(url) {
    this.#rows.get(url)?.link.focus({ preventScroll: true });
  }

  #fields() {
    return [...this.#form.elements].filter((field) => field.name);
  }

  #mayChange() {
    return !byId("overview").hidden && (this.#expected > 0 || this.#pages.some(isPending));
  }

  #afterTyping() {
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.#filter(), TYPING_SECONDS * 1000);
  }

  #filter() {
    if (byId("overview").hidden) return; // another page was opened meanwhile: its address is shown
    history.replaceState(null, "", `#${this.#entered()}`);
    this.#start();
  }

  /** Return the filters that are entered, as they stand in the address. */
  #entered() {
    const entered = this.#fields().map(({ name, value }) => [name, value.trim()]);
    return new URLSearchParams(entered.filter(([, value]) => value));
  }

  /** Read the list from its start, as far as it is shown if the filters are still the same. */
  #start() {
    const filters = this.#entered().toString();
    const before = filters === this.#filters ? this.#pages : [];
    return this.#read(filters, async (signal) => {
      const shown = Math.max(PAGE, Math.min(before.length, MOST_REREAD));
      const { pages, next } = await this.#collect(filters, shown, null, signal);
      const last = before.findIndex((page) => page.url === pages.at(-1)?.url);
      const below = before.length > MOST_REREAD && next ? before.slice(last + 1) : [];
      const kept = unlisted(below, pages);
      return { pages: [...pages, ...kept], next: kept.length ? this.#next : next };
    });
  }

  async #more() {
    const before = this.#pages;
    await this.#read(this.#filters, async (signal) => {
      const { pages, next } = await this.#collect(this.#filters, PAGE, this.#next, signal);
      return { pages: [...before, ...unlisted(pages, before)], next };
    });
    this.focus(this.#pages[before.length]?.url);
  }

  /** Show what is read, and give up what is still being read. Returns the seconds to wait. */
  #read(filters, collect) {
    this.#given.abort();
    const { signal } = this.#given = new AbortController();
    this.#reading = collect(signal).then((found) => this.#show(found, filters)).catch((error) => {
      if (signal.aborted) return 0;
      if (filters !== this.#filters) this.#show({ pages: [], next: null }, filters);
      say(byId("list-status"), error.status === 401 ? "" : words(error));
      return error.retryAfter;
    });
    return this.#reading;
  }

  async #collect(filters, count, cursor, signal) {
    const pages = [];
    let next = cursor;
    for (let calls = 0; calls < MOST_CALLS && pages.length < count; calls += 1) {
      const limit = Math.min(MOST_AT_ONCE, count - pages.length);
      const answer = await read(listAddress(filters, limit, next), { signal });
      pages.push(...answer.items);
      next = answer.next;
      if (next === null) break;
    }
    return { pages, next };
  }

  #show({ pages, next }, filters) {
    this.#pages = pages;
    this.#next = next;
    this.#filters = filters;
    const wanted = new Set(pages.map((page) => page.url));
    for (const [url, row] of this.#rows) if (!wanted.has(url)) this.#remove(url, row);
    pages.forEach((page, index) => {
      const row = this.#rowOf(page);
      const there = this.#body.rows[index];
      if (there !== row.element) this.#body.insertBefore(row.element, there ?? null);
    });
    byId("more").hidden = next === null;
    say(byId("list-status"), summary(pages, next, filters !== ""));
  }

  #rowOf(page) {
    const row = this.#rows.get(page.url) ?? new Row(page.url);
    this.#rows.set(page.url, row);
    row.update(page);
    return row;
  }

  #remove(url, row) {
    const hadFocus = row.element.contains(document.activeElement);
    const neighbour = row.element.nextElementSibling ?? row.element.previousElementSibling;
    row.element.remove();
    this.#rows.delete(url);
    if (hadFocus) (neighbour?.querySelector("a") ?? byId("reload")).focus();
  }
}

class Row {
  #seen = "";
  #cells;

  constructor(url) {
    this.link = make("a", { href: `#${new URLSearchParams({ url })}`, dir: "auto" });
    const names = ["status", "page", "host", "http", "size", "age"];
    this.#cells = names.map((name) => make("td", { class: name, role: "cell" }));
    this.element = make("tr", { role: "row" }, ...this.#cells);
  }

  update(page) {
    const seen = JSON.stringify(page);
    if (seen === this.#seen) return;
    this.#seen = seen;
    const [status, name, host, http, bytes, checked] = this.#cells;
    const result = page.metadata;
    const { host: where, hostname } = URL.parse(page.url) ?? { host: "", hostname: "" };
    status.replaceChildren(badge(page));
    const title = result?.document?.title;
    say(this.link, shortened(title || page.url, 160));
    const address = title && make("small", { dir: "ltr" }, shortened(page.url, 160));
    const facts = [where, result?.status_code, result && size(result.body_bytes)].filter(Boolean);
    const inShort = make("small", { class: "in-short" }, shortened(facts.join(" · "), 160));
    if (!name.contains(this.link)) name.append(this.link);
    while (name.lastChild !== this.link) name.lastChild.remove();
    name.append(...[address, inShort].filter(Boolean));
    const others = `#${new URLSearchParams({ host: hostname })}`;
    host.replaceChildren(make("a", { href: others }, shortened(where, 80)));
    say(http, result ? String(result.status_code) : "");
    say(bytes, result ? size(result.body_bytes) : "");
    const untried = isPending(page) ? ["not checked yet"] : ["tried ", age(page.updated_at)];
    const heading = make("span", { class: "name" }, "checked "); // a phone has no heading for it
    const said = page.checked_at ? [heading, age(page.checked_at)] : untried;
    checked.replaceChildren(make("small", {}, ...said));
  }
}

/** Return the status of a page as a mark and a word, and that of a refresh if there is one. */
export function badge(page) {
  const refresh = page.refresh && make("small", {}, `refresh ${statusWords(page.refresh.status)}`);
  return make("span", { class: `badge ${page.status.toLowerCase()}` },
    statusWords(page.status), refresh);
}

function listAddress(filters, limit, cursor) {
  const { q, host, status, since } = Object.fromEntries(new URLSearchParams(filters));
  return address("metadata/pages", {
    ...{ q, host, limit, cursor },
    status: status?.split(" "),
    updated_since: since && new Date(now() - since * 1000).toISOString(),
  });
}

/** Return those pages that are not among the others. */
function unlisted(pages, others) {
  const known = new Set(others.map((page) => page.url));
  return pages.filter((page) => !known.has(page.url));
}

function summary(pages, next, isFiltered) {
  if (!pages.length && next !== null) return "Nothing found so far; there is more to look at.";
  if (!pages.length) return isFiltered ? "No page fits." : "The inventory has no pages yet.";
  const pending = pages.filter(isPending).length;
  const count = pages.length === 1 ? "1 page" : `${pages.length.toLocaleString("en")} pages`;
  const more = next === null ? "" : ", and there are more";
  return `${count}${more}${pending ? `; ${pending} on the way` : ""}.`;
}
