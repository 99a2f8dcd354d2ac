// Shows the source of a page as text, when somebody asks for it.

import { address, call } from "./api.js";
import { button, make } from "./elements.js";
import { words } from "./news.js";
import { visible } from "./text.js";

const MOST = 200_000;

/** Return a button that reads the source of a page, and puts it in its own place. */
export function sourceOf(url) {
  const place = make("div", {});
  const ask = button("Show the source", async () => {
    ask.disabled = true;
    try {
      const response = await call(address("metadata/source", { url }));
      place.replaceChildren(...shown(await firstCharacters(response)));
      place.querySelector("pre").focus();
    } catch (error) {
      ask.disabled = false;
      place.replaceChildren(ask, make("p", { role: "alert" }, words(error)));
      ask.focus();
    }
  });
  place.append(ask);
  return place;
}

function shown({ text, isCut }) {
  const note = isCut
    ? `The first ${MOST.toLocaleString("en")} characters; /metadata/source has all of them.`
    : `All of it, ${text.length.toLocaleString("en")} characters.`;
  // It scrolls, so it has to be reachable by keyboard.
  const source = make("pre", { tabindex: 0, role: "region", "aria-label": "Source of the page" });
  source.append(visible(text));
  return [make("p", {}, note), source];
}

/** Read no more of a response than is shown. */
async function firstCharacters(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text, isCut: false };
    text += value;
    if (text.length > MOST) {
      reader.cancel();
      return { text: text.slice(0, MOST), isCut: true };
    }
  }
}
