// Elements from code. All text becomes text nodes, so nothing that users or servers say is ever read as markup.

/**
 * Make an element.
 * @param {string} tag its name, with classes behind dots: "div.card.wide"
 * @param {Object} props attributes; on… are listeners, "text" is its text
 * @param {...(Node|string|number|null|undefined|Array)} children
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.classList.add(...String(value).split(" ").filter(Boolean));
    else if (key === "value" || key === "checked" || key === "disabled" || key === "open") element[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(element, child);
    else element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replace what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

const FOCUSABLE = "a, button, summary, input, textarea, select, [tabindex='0']";

/** Draw a part of the page anew: what is unfolded stays unfolded, and the keyboard stays where it is. */
export function redraw(element, draw) {
  const unfolded = [...element.querySelectorAll("details")].map((details) => details.open);
  const at = [...element.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  draw();
  element.querySelectorAll("details").forEach((details, index) => { details.open = unfolded[index] ?? details.open; });
  if (at >= 0) element.querySelectorAll(FOCUSABLE)[at]?.focus({ preventScroll: true });
}

/** Say something for a few seconds, to screen readers, too. */
export function toast(text, bad = false) {
  const shown = h(`div.toast${bad ? ".bad" : ""}`, {}, text);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), bad ? 9000 : 4000);
}
