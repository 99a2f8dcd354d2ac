// Asks for a page, and watches it come in.

import { address, call, read } from "./api.js";
import { button, byId, make } from "./elements.js";
import { words } from "./news.js";
import { pause } from "./repeating.js";
import { shortened } from "./text.js";
import { errorWords, size, statusWords } from "./words.js";

const WAIT_SECONDS = 20;
const POLL_SECONDS = 2;
const MOST_SHOWN = 3;
const ENDED = ["COMPLETED", "FAILED_PERMANENT", "DELETED"];

/** Ask for what is entered into the form, and have the list show it meanwhile. */
export function listenForUrls(list) {
  byId("submit").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = byId("submit-url");
    submit(field.value.trim(), list);
    field.value = "";
    field.focus();
  });
}

/** Ask for a page anew, and wait. Returns the page, or what became of the request. */
export async function fetchAnew(url) {
  const options = { method: "POST", body: { url }, waitSeconds: WAIT_SECONDS };
  const response = await call(address("metadata"), options);
  const answer = await response.json();
  return response.status === 202 ? untilEnded(answer) : answer;
}

async function submit(url, list) {
  const line = make("li", {}, `${shortened(url, 100)}: asked for …`);
  byId("submitted").prepend(line);
  while (byId("submitted").children.length > MOST_SHOWN) byId("submitted").lastChild.remove();
  try {
    const page = await list.whileAwaiting(fetchAnew(url));
    const here = `#${new URLSearchParams({ url: page.url })}`;
    const opened = make("a", { href: here }, shortened(page.url, 100));
    line.replaceChildren(opened, `: ${outcome(page)}`);
  } catch (error) {
    const again = button("Put it back", () => {
      byId("submit-url").value = url;
      byId("submit-url").focus();
    });
    line.replaceChildren(`${shortened(url, 100)}: ${words(error)} `, again);
  }
}

/** Wait until a request has ended that was not answered in time, after retries perhaps. */
async function untilEnded({ url, request_id: id }) {
  for (;;) {
    await pause(POLL_SECONDS);
    const state = await read(address(`metadata/requests/${encodeURIComponent(id)}`)).catch(later);
    if (ENDED.includes(state.status)) return { ...state, url };
  }
}

/** Go on after answers that say to try again. A request is recorded just after it is accepted. */
async function later(error) {
  if (error.status !== 404 && !error.retryAfter) throw error;
  await pause(error.retryAfter || POLL_SECONDS);
  return {};
}

function outcome({ status, metadata, error }) {
  if (error) return `${statusWords(status)}. ${errorWords(error.kind)}`;
  if (!metadata?.status_code) return `${statusWords(status)}.`;
  return `${statusWords(status)}: HTTP ${metadata.status_code}, ${size(metadata.body_bytes)}.`;
}
