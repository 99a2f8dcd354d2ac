// Shows what strangers wrote as text: readable, bounded, and unable to do anything.

import { button, make } from "./elements.js";

const PIECE = 20_000;
const MOST_ITEMS = 100;
const LONGEST_URL = 2083; // the API takes no longer ones

// Control and format characters, lone surrogates and separators: they can hide text, reverse its
// order (U+202E), or break a line. Tab, line feed, soft hyphen and the two joiners, without which
// Persian and some emoji fall apart, stay as they are.
const UNSEEN = /(?![\t\n\u00AD\u200C\u200D])[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** Return text with each such character written as its number, for example ‹U+202E›. */
export function visible(text) {
  return text.replaceAll("\r\n", "\n").replace(UNSEEN, (character) => {
    const number = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return `‹U+${number}›`;
  });
}

/** Return visible text of at most so many characters. */
export function shortened(text, most) {
  return text.length > most ? `${visible(beginning(text, most))}…` : visible(text);
}

/** Return an element with a text, cut if it is long, and a button to see more of it. */
export function value(text, most = 300) {
  if (text === "") return make("span", { class: "quiet" }, "(empty)");
  let shown = beginning(text, most).length;
  // <bdi>: text that runs from right to left leaves the order of what is around it alone.
  const content = make("bdi", { dir: "auto" }, visible(text.slice(0, shown)));
  const whole = make("span", { class: "value" }, content);
  if (shown < text.length) {
    const label = () => `More (${(text.length - shown).toLocaleString("en")} characters)`;
    whole.append(" ", button(label(), (more) => {
      const piece = beginning(text.slice(shown), PIECE);
      content.append(visible(piece));
      shown += piece.length;
      more.textContent = label();
      if (shown >= text.length) more.remove();
    }));
  }
  return whole;
}

/** Return an http or https URL, parsed, and null for anything else, such as `javascript:`. */
export function webAddress(url) {
  const target = URL.parse(url);
  return ["http:", "https:"].includes(target?.protocol) ? target : null;
}

/** Return a link that opens in another tab. What is no address of the web is shown as text. */
export function link(url) {
  const target = webAddress(url);
  if (target === null) return value(url);
  const attributes = { href: target.href, target: "_blank", rel: "noreferrer noopener" };
  return make("a", { ...attributes, class: "value", dir: "ltr" }, shortened(url, LONGEST_URL));
}

/** Put the first hundred items into a parent. Returns a button for the next ones, or null. */
export function fill(parent, items, row) {
  let shown = 0;
  const next = () => {
    parent.append(...items.slice(shown, shown + MOST_ITEMS).map(row));
    shown = Math.min(items.length, shown + MOST_ITEMS);
    return `${(items.length - shown).toLocaleString("en")} more`;
  };
  const label = next();
  if (shown === items.length) return null;
  return button(label, (more) => {
    more.textContent = next();
    if (shown === items.length) more.remove();
  });
}

/** Return the first characters of a text, without half of a pair of surrogates at its end. */
function beginning(text, most) {
  const splits = most < text.length && /[\uD800-\uDBFF]/.test(text[most - 1]);
  return text.slice(0, splits ? most - 1 : most);
}
