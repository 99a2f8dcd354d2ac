// Asks for a page, and watches it come in.

import { address, call, read } from "./api.js";
import { button, byId, make } from "./elements.js";
import { words } from "./news.js";
import { pause, visibility } from "./repeating.js";
import { shortened } from "./text.js";
import { errorWords, isPending, size, statusWords } from "./words.js";

const WAIT_SECONDS = 20;
const MOST_WAITING = 3; // browsers have six connections to a server, and other calls need some
const LONGEST_PAUSE = 30; // in seconds; the first one takes 2, and each is longer than the last
const PATIENCE = 300; // after so many seconds it is left to the list to show the end
const RECORDED_SECONDS = 20; // a request is recorded just after it is accepted
const MOST_SHOWN = 3;

let waiting = 0;

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

/** Ask for a page anew, and wait some minutes. Returns the page, or the state of the request. */
export async function fetchAnew(url) {
  const waitSeconds = waiting < MOST_WAITING ? WAIT_SECONDS : 0;
  waiting += 1;
  try {
    const options = { method: "POST", body: { url }, waitSeconds };
    const response = await call(address("metadata"), options);
    const answer = await response.json();
    return response.status === 202 ? untilEnded(answer) : answer;
  } finally {
    waiting -= 1;
  }
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

/** Watch a request that was not answered in time, ever more slowly. Returns its last state. */
async function untilEnded(asked) {
  const place = address(`metadata/requests/${encodeURIComponent(asked.request_id)}`);
  let [state, waited, seconds] = [asked, 0, 2];
  while (waited < PATIENCE && isPending(state)) {
    await pause(seconds);
    await visibility();
    waited += seconds;
    seconds = Math.min(seconds * 1.3, LONGEST_PAUSE);
    try {
      state = { ...await read(place), url: asked.url };
    } catch (error) {
      if (error.status === 404 ? waited > RECORDED_SECONDS : !error.retryAfter) throw error;
      seconds = Math.max(seconds, error.retryAfter);
    }
  }
  return state;
}

function outcome({ status, metadata, error }) {
  if (isPending({ status })) return `${statusWords(status)}. The list shows how it goes on.`;
  if (error) return `${statusWords(status)}. ${errorWords(error.kind)}`;
  if (!metadata?.status_code) return `${statusWords(status)}.`;
  return `${statusWords(status)}: HTTP ${metadata.status_code}, ${size(metadata.body_bytes)}.`;
}
