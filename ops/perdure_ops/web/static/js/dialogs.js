// Questions to the user, in a dialog that the keyboard reaches.

import { h } from "./dom.js";

const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/;

/**
 * Ask for values. Resolves to them, or to null if the user thinks better of it.
 * @param {{title: string, text?: string, action: string, danger?: boolean, fields?: Array}} question each field has a
 *   name, a label, and maybe: value, hint, required, kind ("text", "json", "moment", "select", "check"), options
 */
export function ask({ title, text, action, danger, fields = [] }) {
  return new Promise((resolve) => {
    const inputs = fields.map((field) => [field, input(field)]);
    const wrong = h("p.wrong", { role: "alert", hidden: true });
    const dialog = h("dialog", { "aria-label": title }, h("form", {
      onsubmit: (event) => {
        event.preventDefault();
        try {
          done(Object.fromEntries(inputs.map(([field, element]) => [field.name, valueOf(field, element)])));
        } catch (error) {
          wrong.textContent = error.message;
          wrong.hidden = false;
        }
      },
    }, h("h2", {}, title), text ? h("p.muted", {}, text) : null,
    inputs.map(([field, element]) => labelled(field, element)), wrong,
    h("div.buttons", {}, h("button.button", { type: "button", onclick: () => done(null) }, "Not now"),
      h(`button.button${danger ? ".danger" : ".main"}`, {}, action))));
    function done(value) {
      dialog.close();
      dialog.remove();
      resolve(value);
    }
    dialog.addEventListener("cancel", () => done(null));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A field with its label and hint. */
export function labelled(field, element) {
  if (field.kind === "check") return h("label.check", {}, element, field.label);
  return h(`label.field${field.full ? ".full" : ""}`, {}, h("span", {}, field.label), element, field.hint ? h("small", {}, field.hint) : null);
}

/** The input of a field. */
export function input(field) {
  const given = { name: field.name, required: field.required, placeholder: field.placeholder, value: field.value ?? "", autocomplete: "off" };
  if (field.kind === "json") return h("textarea", { ...given, spellcheck: "false" });
  if (field.kind === "check") return h("input", { type: "checkbox", name: field.name, checked: Boolean(field.value) });
  if (field.kind === "select") {
    return h("select", { name: field.name }, field.options.map(([value, name]) => h("option", { value, selected: value === field.value }, name)));
  }
  return h("input", { ...given, type: field.kind && field.kind !== "moment" ? field.kind : "text", list: field.list });
}

/** What was given, checked; JSON stays text, so that its numbers keep all digits. */
export function valueOf(field, element) {
  if (field.kind === "check") return element.checked;
  const text = element.value.trim();
  if (field.kind === "moment" && !MOMENT.test(text)) throw new Error(`${field.label}: this is no time; write 2026-01-31T06:00:00Z`);
  if (field.kind !== "json") return text;
  if (!text) return field.empty ?? "[]";
  try {
    const value = JSON.parse(text);
    if (field.list_only && !Array.isArray(value)) throw new Error("write a list, like [1, \"two\"]");
    return text;
  } catch (error) {
    throw new Error(`${field.label}: this is no JSON: ${error.message}`);
  }
}
