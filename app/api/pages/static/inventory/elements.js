// Makes elements. What is given as text becomes text: nothing here parses HTML.

/** Return an element. Attributes that are null or false are left out. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Return an element of SVG. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** Return a button that does something. */
export function button(label, act, attributes = {}) {
  const made = make("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", () => act(made));
  return made;
}

/** Return a list of terms, from pairs of a term and what is said of it. */
export function terms(pairs) {
  const known = pairs.filter(([, said]) => said ?? false);
  return make("dl", {}, ...known.map(([term, said]) =>
    make("div", {}, make("dt", {}, term), make("dd", {}, said))));
}

/** Return the element of the page with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Set an element's text, unless it is that already: screen readers announce each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child ?? false));
  return element;
}
