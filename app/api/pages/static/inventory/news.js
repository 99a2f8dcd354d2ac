// Tells the person what has happened, on the screen and to screen readers.

import { Problem } from "./api.js";
import { byId, say } from "./elements.js";
import { shortened } from "./text.js";

/** Say that something was done, in place of what was said before. */
export function news(text) {
  say(byId("news"), text);
  byId("trouble").hidden = true;
}

/** Say what went wrong. Calls that were given up are no errors, and 401 has a form of its own. */
export function trouble(error, about = "") {
  news("");
  if (error.name === "AbortError" || error.status === 401) return;
  if (!(error instanceof Problem)) console.error(error);
  say(byId("trouble"), about + words(error));
  byId("trouble").hidden = false;
}

/** Return what an error says, for a person to read. */
export function words(error) {
  return shortened(error.message, 500);
}
