// Offers the command that reads a page from a shell.

import { address, knownKey } from "./api.js";
import { news } from "./news.js";

/** Return the command. It names the key by a variable: shells keep a history. */
export function curl(url) {
  const quoted = address("metadata", { url, queue: "false" }).href.replaceAll("'", "%27");
  const key = knownKey() ? ' -H "Authorization: Bearer $PAGEMETA_KEY"' : "";
  return `curl '${quoted}'${key}`;
}

/** Copy the text of an element. Where the browser does not allow that, select it for the person. */
export async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    news("The command is copied.");
  } catch {
    getSelection().selectAllChildren(element);
    news("The browser does not let this page copy: the command is selected, copy it by hand.");
  }
}
