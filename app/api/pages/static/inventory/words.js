// Says in words what the API says in names and numbers.

import { now } from "./api.js";
import { make } from "./elements.js";
import { shortened } from "./text.js";

const STATUSES = {
  QUEUED: "waiting",
  IN_PROGRESS: "being fetched",
  COMPLETED: "fetched",
  FAILED_RETRYABLE: "to be tried again",
  FAILED_PERMANENT: "failed",
  DELETED: "deleted",
};

const ERRORS = {
  dns: "The host name could not be resolved, or leads to an address that is not fetched.",
  connect: "The connection was refused or lost.",
  tls: "The site's certificate could not be verified, or the encrypted connection failed.",
  timeout: "The page did not arrive in time.",
  http_status: "The server answered a status that says to try again later.",
  too_many_redirects: "There are more redirects on the way to the page than are followed.",
  blocked_address: "The service does not fetch this address, or one that it redirects to.",
  invalid_response: "The server's answer was not valid HTTP, or exceeded a limit.",
  not_storable: "The page cannot be stored, for example because it is too large.",
  robots: "The host's robots.txt does not allow the page to be fetched.",
  attempts_exhausted: "Every attempt was lost together with the worker that made it.",
  internal: "Something unforeseen happened in the service.",
};

const PENDING = ["QUEUED", "IN_PROGRESS", "FAILED_RETRYABLE"];
const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

/** Return a status in words. */
export function statusWords(status) {
  return STATUSES[status] ?? shortened(status, 40);
}

/** Say whether a fetch of a page is to come or under way, a refresh too. */
export function isPending(page) {
  return PENDING.includes(page.status) || PENDING.includes(page.refresh?.status);
}

/** Return what a kind of error means. */
export function errorWords(kind) {
  return ERRORS[kind] ?? `It failed in a way unknown to this page (${shortened(kind, 40)}).`;
}

/** Return how often it was tried. */
export function attemptsWords(attempts) {
  if (attempts === 0) return "not tried yet";
  return attempts === 1 ? "one attempt" : `${attempts} attempts`;
}

/** Return a number of bytes in a unit that people read. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Return a moment as a person in this time zone writes it. */
export function moment(time) {
  if (Number.isNaN(Date.parse(time))) return shortened(String(time), 40);
  return MOMENT.format(new Date(time));
}

/** Return an element that says how long ago a moment is; `keepAges()` keeps it true. */
export function age(time) {
  return make("time", { datetime: time, title: moment(time), "data-age": true }, ago(time));
}

/** Bring all elements of `age()` up to date now and then. */
export function keepAges() {
  setInterval(() => {
    for (const element of document.querySelectorAll("time[data-age]")) {
      element.textContent = ago(element.dateTime);
    }
  }, 20_000);
}

function ago(time) {
  const seconds = (now() - Date.parse(time)) / 1000;
  const [unit, length] = UNITS.find(([, length]) => seconds >= length) ?? ["second", 1];
  return RELATIVE.format(-Math.max(0, Math.floor(seconds / length)), unit);
}
