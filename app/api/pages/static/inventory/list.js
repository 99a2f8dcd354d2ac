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
  #filters = null; // those that the pages fit
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
  async show(place) {
    for (const field of this.#fields()) field.value = place.get(field.name) ?? "";
    const isShown = this.#pages.length > 0 && this.#filters === this.#entered().toString();
    await (isShown ? this.refresh() : this.#start());
  }

  /** Read again what is shown, and change only what has changed: focus and scrolling stay. */
  async refresh() {
    await this.#reading;
    return this.#read(async (signal) => {
      const shown = Math.max(PAGE, Math.min(this.#pages.length, MOST_REREAD));
      const { pages, next } = await this.#collect(shown, null, signal);
      const last = this.#pages.findIndex((page) => page.url === pages.at(-1)?.url);
      const below = this.#pages.length > MOST_REREAD && next ? this.#pages.slice(last + 1) : [];
      const known = new Set(pages.map((page) => page.url));
      const kept = below.filter((page) => !known.has(page.url));
      this.#show([...pages, ...kept], kept.length ? this.#next : next);
    });
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

  #start() {
    this.#filters = this.#entered().toString();
    return this.#read(async (signal) => {
      try {
        const { pages, next } = await this.#collect(PAGE, null, signal);
        this.#show(pages, next);
      } catch (error) {
        if (!signal.aborted) this.#show([], null); // those that are shown fit other filters
        throw error;
      }
    });
  }

  #more() {
    return this.#read(async (signal) => {
      const { pages, next } = await this.#collect(PAGE, this.#next, signal);
      const first = this.#pages.length;
      const known = new Set(this.#pages.map((page) => page.url));
      this.#show([...this.#pages, ...pages.filter((page) => !known.has(page.url))], next);
      if (this.#pages[first]) this.#rows.get(this.#pages[first].url).link.focus();
    });
  }

  /** Read the list, instead of what is still being read. Returns the seconds to wait, if any. */
  #read(act) {
    this.#given.abort();
    this.#given = new AbortController();
    this.#reading = this.#reported(act, this.#given.signal);
    return this.#reading;
  }

  async #reported(act, signal) {
    try {
      await act(signal);
      return 0;
    } catch (error) {
      if (!signal.aborted && error.status !== 401) say(byId("list-status"), words(error));
      return error.retryAfter;
    }
  }

  async #collect(count, cursor, signal) {
    const pages = [];
    let next = cursor;
    for (let calls = 0; calls < MOST_CALLS && pages.length < count; calls += 1) {
      const limit = Math.min(MOST_AT_ONCE, count - pages.length);
      const answer = await read(this.#address(limit, next), { signal });
      pages.push(...answer.items);
      next = answer.next;
      if (next === null) break;
    }
    return { pages, next };
  }

  #address(limit, cursor) {
    const { q, host, status, since } = Object.fromEntries(this.#entered());
    return address("metadata/pages", {
      q,
      host: host?.toLowerCase(),
      status: status?.split(" "),
      updated_since: since && new Date(now() - since * 1000).toISOString(),
      limit,
      cursor,
    });
  }

  #show(pages, next) {
    this.#pages = pages;
    this.#next = next;
    const wanted = new Set(pages.map((page) => page.url));
    for (const [url, row] of this.#rows) if (!wanted.has(url)) this.#remove(url, row);
    pages.forEach((page, index) => {
      const row = this.#rowOf(page);
      const there = this.#body.rows[index];
      if (there !== row.element) this.#body.insertBefore(row.element, there ?? null);
    });
    byId("more").hidden = next === null;
    say(byId("list-status"), summary(pages, next, this.#filters !== ""));
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
    checked.replaceChildren(age(page.checked_at ?? page.updated_at));
  }
}

/** Return the status of a page as a mark and a word, and that of a refresh if there is one. */
export function badge(page) {
  const refresh = page.refresh && make("small", {}, `refresh ${statusWords(page.refresh.status)}`);
  return make("span", { class: `badge ${page.status.toLowerCase()}` },
    statusWords(page.status), refresh);
}

function summary(pages, next, isFiltered) {
  if (!pages.length && next !== null) return "Nothing found so far; there is more to look at.";
  if (!pages.length) return isFiltered ? "No page fits." : "The inventory has no pages yet.";
  const pending = pages.filter(isPending).length;
  const count = pages.length === 1 ? "1 page" : `${pages.length.toLocaleString("en")} pages`;
  const more = next === null ? "" : ", and there are more";
  return `${count}${more}${pending ? `; ${pending} on the way` : ""}.`;
}
