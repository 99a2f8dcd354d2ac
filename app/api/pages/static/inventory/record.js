// One page of the inventory: what was found, how it went, and what can be done with it.

import { address, call, read } from "./api.js";
import { copy, curl } from "./curl.js";
import { describe, isSaid } from "./describe.js";
import { button, byId, make, say, terms } from "./elements.js";
import { badge } from "./list.js";
import { news, trouble } from "./news.js";
import { repeat } from "./repeating.js";
import { sourceOf } from "./source.js";
import { fetchAnew } from "./submit.js";
import { fill, link, shortened, value, webAddress } from "./text.js";
import { age, attemptsWords, errorWords, isPending, moment, size, statusWords } from "./words.js";

const REFRESH_SECONDS = 3;

// All but the source, which is read when somebody asks for it.
const FIELDS = [
  "final_url", "status_code", "http_version", "headers", "cookies", "page_source_truncated",
  "content_type", "charset", "body_bytes", "body_sha256", "redirects", "remote_address",
  "elapsed_ms", "fetched_at", "document",
].join();

const IN_PREVIEW = ["title", "description", "site_name", "image"];

export class RecordView {
  #url = null;
  #seen = "";
  #page = null;
  #status;
  #body;

  constructor() {
    repeat(REFRESH_SECONDS, () => this.#page && isPending(this.#page) ? this.#refresh() : 0);
  }

  /** Show a page, and go on showing it as it changes. */
  open(url) {
    this.close();
    this.#url = url;
    this.#status = make("div", { role: "status" });
    this.#body = make("div", {});
    const heading = make("h2", { tabindex: -1, id: "record-heading" }, shortened(url, 200));
    const back = make("a", { href: "#" }, "All pages");
    byId("record").replaceChildren(
      back, heading, make("p", {}, link(url)), this.#actions(url), this.#status, this.#body,
    );
    byId("record").setAttribute("aria-labelledby", "record-heading");
    document.title = `${shortened(url, 80)} - Inventory`;
    heading.focus();
    return this.#refresh();
  }

  /** Forget the page that is shown. Returns its URL, or null if there is none. */
  close() {
    const left = this.#url;
    this.#url = this.#page = null;
    this.#seen = "";
    byId("delete-dialog").close("");
    return left;
  }

  async #refresh() {
    const url = this.#url;
    try {
      const page = await read(address("metadata", { url, queue: "false", fields: FIELDS }));
      this.#ifShown(url, () => this.#show(page));
      return 0;
    } catch (error) {
      this.#ifShown(url, () => error.status === 404 ? this.#show(null) : trouble(error));
      return error.retryAfter;
    }
  }

  /** Do something unless the person has left the page: answers take their time. */
  #ifShown(url, act) {
    return this.#url === url ? act() : null;
  }

  /** Show a record, or null: there is none, and it is not read again until somebody asks for it. */
  #show(page) {
    byId("trouble").hidden = true;
    const known = this.#page ? "no longer known" : "not known";
    this.#page = page;
    const seen = JSON.stringify(page);
    if (seen === this.#seen) return;
    this.#seen = seen;
    if (page === null) {
      this.#status.replaceChildren(`This page is ${known}.`);
      this.#body.replaceChildren(make("a", { href: "#" }, "See those that are"));
      return;
    }
    const name = page.metadata?.document?.title || page.url;
    say(byId("record-heading"), shortened(name, 200));
    document.title = `${shortened(name, 80)} - Inventory`;
    this.#status.replaceChildren(badge(page), story(page));
    this.#body.replaceChildren(...partsOf(page));
  }

  #actions(url) {
    const command = make("code", {}, curl(url));
    return make("div", { class: "actions" },
      button("Fetch anew", (pressed) => this.#fetchAnew(pressed, url)),
      button("Copy as curl", () => copy(command)),
      button("Delete …", () => this.#delete(url), { class: "danger" }),
      command);
  }

  async #fetchAnew(pressed, url) {
    if (pressed.ariaBusy === "true") return;
    pressed.ariaBusy = "true";
    news("Asked for a new fetch …");
    try {
      const ended = fetchAnew(url);
      setTimeout(() => this.#ifShown(url, () => this.#refresh()), 300);
      const not = isPending(await ended) ? "not " : "";
      this.#ifShown(url, () => news(`The fetch has ${not}ended.`));
      await this.#ifShown(url, () => this.#refresh());
    } catch (error) {
      this.#ifShown(url, () => trouble(error));
    } finally {
      pressed.ariaBusy = "false";
    }
  }

  #delete(url) {
    const dialog = byId("delete-dialog");
    dialog.returnValue = "";
    say(byId("delete-question"), `Delete ${shortened(url, 200)}?`);
    dialog.addEventListener("close", async () => {
      if (dialog.returnValue !== "delete") return;
      try {
        await call(address("metadata", { url }), { method: "DELETE" });
        const told = () => news(`Deleted ${shortened(url, 200)}.`);
        if (this.#url !== url) return told();
        addEventListener("hashchange", told, { once: true });
        location.hash = "";
      } catch (error) {
        trouble(error, `${shortened(url, 200)} is not deleted: `);
      }
    }, { once: true });
    dialog.showModal();
  }
}

function partsOf(page) {
  const result = page.metadata;
  const parts = [];
  if (page.error) parts.push(failure(page.error));
  if (page.refresh) parts.push(refreshOf(page.refresh));
  if (!result) return parts;
  if (result.document) parts.push(preview(result.document));
  parts.push(
    section("The answer", answerOf(result)),
    section("The way to the page", way(page.url, result)),
    section(`Headers (${result.headers.length})`, pairs("Headers", ["Name", "Value"],
      result.headers, ({ name, value: text }) => [value(name), value(text)])),
    section(`Cookies (${result.cookies.length})`, pairs("Cookies", ["Name", "Value", "Valid"],
      result.cookies, (cookie) => [value(cookie.name), value(cookie.value), value(validity(cookie))])),
  );
  const said = result.document;
  if (said) parts.push(section("What the page says of itself", documentOf(said)));
  if (result.charset !== null) parts.push(section("Source", sourceOf(page.url)));
  return parts;
}

function section(title, ...content) {
  return make("section", {}, make("h3", {}, title), ...content);
}

function story(page) {
  const asked = make("p", {}, "First asked for ", age(page.created_at), ", ");
  asked.append(`${attemptsWords(page.attempts)} for the latest request`);
  if (page.checked_at) asked.append("; this result was checked ", age(page.checked_at));
  asked.append(".");
  return asked;
}

function failure(error) {
  return make("p", { class: "failure" }, make("strong", {}, errorWords(error.kind)), " ",
    "In detail: ", value(error.message));
}

const REFRESHES = {
  QUEUED: "A refresh is waiting for a worker.",
  IN_PROGRESS: "A refresh is under way.",
  FAILED_RETRYABLE: "A refresh has failed so far, and will be tried again.",
  FAILED_PERMANENT: "A refresh has failed. What is shown is the result from before.",
};

function refreshOf({ status, attempts, error, requested_at: asked }) {
  const words = REFRESHES[status] ?? `Refresh: ${statusWords(status)}.`;
  const told = make("p", { class: "refresh" }, words);
  if (asked) told.append(" It was asked for ", age(asked), `, ${attemptsWords(attempts)} so far.`);
  return error ? make("div", {}, told, failure(error)) : told;
}

function preview(document) {
  const card = make("section", { class: "preview", "aria-label": "Preview" });
  if (document.site_name) card.append(make("p", { class: "quiet" }, value(document.site_name)));
  if (document.title) card.append(make("p", { class: "title" }, value(document.title)));
  if (document.description) card.append(make("p", {}, value(document.description, 600)));
  if (document.image) card.append(imageOf(document.image));
  return card;
}

/** Return a button that loads an image from its own server, which then learns of the visitor. */
function imageOf({ url, alt }) {
  const place = make("p", {}, "Image: ", link(url), " ");
  const target = webAddress(url);
  if (target === null) return place;
  place.append(button(`Load it from ${shortened(target.host, 80)}`, (pressed) => {
    const described = shortened(alt || "The image that stands for the page", 300);
    const image = make("img", { referrerpolicy: "no-referrer", alt: described, tabindex: -1 });
    image.addEventListener("error", () => image.replaceWith("The image could not be loaded."));
    image.src = target.href;
    pressed.replaceWith(image);
    image.focus();
  }));
  return place;
}

function answerOf(result) {
  const cut = result.page_source_truncated ? ", cut" : "";
  return terms([
    ["Status", value(`${result.status_code} (${result.http_version})`)],
    ["Address", result.remote_address && value(result.remote_address)],
    ["Type", result.content_type && value(result.content_type)],
    ["Encoding", result.charset && value(result.charset)],
    ["Size", `${size(result.body_bytes)}${cut}`],
    ["SHA-256", value(result.body_sha256)],
    ["Fetched", `${moment(result.fetched_at)}, in ${Math.round(result.elapsed_ms)} ms`],
  ]);
}

function way(url, result) {
  if (!result.redirects.length) return make("p", {}, "No redirects.");
  const steps = result.redirects.map((step) => make("li", {}, link(step.url),
    make("small", {}, ` ${step.status_code}, to `, value(step.location))));
  steps.push(make("li", {}, link(result.final_url), make("small", {}, ` ${result.status_code}`)));
  return make("ol", {}, ...steps);
}

/** Return a table of rows whose first cell is their heading. */
function pairs(name, headings, items, cells) {
  if (!items.length) return make("p", {}, "None.");
  const head = make("tr", {}, ...headings.map((text) => make("th", { scope: "col" }, text)));
  const body = make("tbody", {});
  const table = make("table", { "aria-label": name }, make("thead", {}, head), body);
  const more = fill(body, items, (item) => {
    const [first, ...others] = cells(item);
    const rest = others.map((cell) => make("td", {}, cell));
    return make("tr", {}, make("th", { scope: "row" }, first), ...rest);
  });
  return make("div", {}, table, more);
}

function validity(cookie) {
  const parts = [
    `${cookie.domain ?? ""}${cookie.path ?? ""}`,
    cookie.max_age !== null && `for ${cookie.max_age} s`,
    cookie.expires && `until ${moment(cookie.expires)}`,
    cookie.secure && "Secure",
    cookie.http_only && "HttpOnly",
    cookie.same_site && `SameSite=${cookie.same_site}`,
  ];
  return parts.filter(Boolean).join(", ");
}

function documentOf(document) {
  const said = Object.entries(document).filter(([name, it]) =>
    !IN_PREVIEW.includes(name) && isSaid(it));
  return describe(Object.fromEntries(said));
}
