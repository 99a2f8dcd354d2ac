// Starts the page: which part is shown follows from the address, and a key is asked for if needed.

import { knownKey, useKey } from "./api.js";
import { showCharts } from "./charts.js";
import { byId, say } from "./elements.js";
import { PageList } from "./list.js";
import { news } from "./news.js";
import { RecordView } from "./record.js";
import { listenForUrls } from "./submit.js";
import { keepAges } from "./words.js";

const title = document.title;
const list = new PageList();
const record = new RecordView();
let scrolled = 0;

/** Show what the address names: `#url=…` is one page, anything else the list and its filters. */
function route() {
  const place = new URLSearchParams(location.hash.slice(1));
  const url = place.get("url");
  if (url !== null && byId("record").hidden) scrolled = scrollY;
  byId("overview").hidden = url !== null;
  byId("record").hidden = url === null;
  if (url !== null) {
    record.open(url);
    return;
  }
  const left = record.close();
  document.title = title;
  list.show(place);
  if (left === null) return;
  scrollTo(0, scrolled);
  list.focus(left);
}

/** Ask for a key, after the first call that was refused for want of one. */
function askForKey(problem) {
  byId("key-form").hidden = false;
  say(byId("key-reason"), knownKey() ? `The key was refused: ${problem.message}.` : "");
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
  byId("key-form").hidden = true;
  byId("forget-key").hidden = false;
  route();
});

byId("forget-key").addEventListener("click", () => {
  useKey(null);
  location.reload(); // What was read with the key goes too.
});

byId("forget-key").hidden = knownKey() === null;
addEventListener("keyneeded", (event) => askForKey(event.detail));
addEventListener("hashchange", () => {
  news("");
  route();
});
route();
listenForUrls(list);
showCharts();
keepAges();
