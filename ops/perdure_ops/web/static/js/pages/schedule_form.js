// The form that makes a schedule, or changes one. What is wrong is said at the field that is meant.

import { get, post, schedule as path } from "../api.js";
import { go } from "../app.js";
import { input, labelled, valueOf } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { milliseconds, span } from "../durations.js";

const CALENDAR = [
  ["hour", "Hour", "0"], ["minute", "Minute", "0"], ["second", "Second", "0"], ["day_of_week", "Day of week", "*"],
  ["day_of_month", "Day of month", "*"], ["month", "Month", "*"], ["year", "Year", "*"],
];
const WHEN = [
  { name: "cron_expressions", label: "Cron strings", kind: "lines", hint: "One on each line: minute, hour, day of month, month, day of week; or @daily.", placeholder: "0 6 * * MON-FRI" },
  { name: "intervals", label: "Intervals", kind: "lines", hint: "One on each line: 1h30m, or 1h/10m for ten minutes past each hour.", placeholder: "1h" },
];
const BOUNDS = [
  { name: "time_zone_name", label: "Time zone", placeholder: "Europe/Zurich", hint: "Of the clock that cron strings and calendars read; UTC if empty." },
  { name: "jitter_ms", label: "Jitter", kind: "span", placeholder: "30s", hint: "Each fire is up to so much late, by chance." },
  { name: "start_at", label: "Not before", kind: "moment", placeholder: "2026-01-31T06:00:00Z" },
  { name: "end_at", label: "Not after", kind: "moment", placeholder: "2026-12-31T06:00:00Z" },
];
const ACTION = [
  { name: "workflow_type", label: "Workflow type", required: true, placeholder: "Report" },
  { name: "task_queue", label: "Task queue", required: true, placeholder: "reports", list: "queues" },
  { name: "workflow_id", label: "Workflow id", required: true, hint: "The time of each fire is added to it.", full: true },
  { name: "args", label: "Arguments", kind: "json", list_only: true, full: true, hint: "A JSON list, one entry for each argument; empty for none." },
];
const POLICY = [
  { name: "overlap", label: "While a workflow of it runs", kind: "select", options: [["SKIP", "skip the fire"], ["BUFFER_ONE", "let one fire wait"],
    ["BUFFER_ALL", "let all fires wait"], ["CANCEL_OTHER", "cancel the running one"], ["TERMINATE_OTHER", "terminate the running one"], ["ALLOW_ALL", "run both"]] },
  { name: "catchup_window_ms", label: "May be late by", kind: "span", placeholder: "365d", hint: "If the engine was down, older fires are left out. A year if empty." },
  { name: "remaining_actions", label: "Fires left", kind: "number", hint: "No limit if empty." },
  { name: "note", label: "Note", hint: "For people." },
  { name: "pause_on_failure", label: "Pause it when a workflow fails", kind: "check" },
  { name: "paused", label: "Paused: it fires by hand only", kind: "check" },
];
const YEAR_MS = 365 * 86_400_000;
const NEW = { schedule_id: "", spec: { calendars: [], intervals: [], cron_expressions: [], skip: [] }, action: { args: [] }, policy: { overlap: "SKIP" } };

/** The page; with an id it changes that schedule. */
export async function scheduleForm({ page, signal }, id) {
  const found = id === undefined ? NEW : await get(path(id), {}, signal);
  const isNew = found === NEW;
  const title = isNew ? "Create a schedule" : `Change ${id}`;
  document.title = `${title} · Perdure`;
  const form = new Form(found, isNew);
  const wrong = h("p.wrong", { role: "alert", hidden: true });
  const button = h("button.button.main", {}, isNew ? "Create" : "Save");
  const queues = h("datalist", { id: "queues" });
  const back = isNew ? "/schedules" : path(id);

  async function submit(event) {
    event.preventDefault();
    wrong.hidden = true;
    form.forgive();
    button.disabled = true;
    try {
      const body = form.body();
      if (isNew) await post("/schedules", body);
      else await post(path(id, "/update"), body);
      go(isNew ? path(form.text("schedule_id")) : back);
    } catch (error) {
      if (!form.blame(error.where ?? "", error.message)) fill(wrong, error.message).hidden = false;
      button.disabled = false;
    }
  }

  fill(page, h("nav.crumbs", { "aria-label": "Where this is" }, h("a", { href: "/schedules" }, "Schedules"), " / ", isNew ? "New" : h("a.break", { href: back }, id)),
    h("h1.break", {}, title),
    h("form.card", { onsubmit: submit, novalidate: true }, h("div.body.panel", {}, form.content, queues, wrong,
      h("div.row", {}, button, h("a.button.plain", { href: back }, "Not now")))));
  form.first().focus();
  const known = await get("/task-queues", {}, signal);
  fill(queues, known.task_queues.map((queue) => h("option", { value: queue.name })));
}

/** A value that cannot be sent, and the field that has it. */
class Wrong extends Error {
  constructor(where, message) {
    super(message);
    this.where = where;
  }
}

class Form {
  constructor(found, isNew) {
    this.found = found;
    this.isNew = isNew;
    this.fields = new Map(); // by the path in the body: the field, its input, and where its fault is said
    this.calendars = h("div.panel");
    this.numbers = 0; // of calendars that were ever added, so that each has names of its own
    const { spec, action, policy } = found;
    const shown = {
      ...spec, ...action, ...policy, note: found.note, paused: found.paused, remaining_actions: found.remaining_actions,
      cron_expressions: spec.cron_expressions.join("\n"), intervals: spec.intervals.map(written).join("\n"), jitter_ms: span(spec.jitter_ms),
      args: action.args.length ? JSON.stringify(action.args, null, 1) : "", catchup_window_ms: span(policy.catchup_window_ms === YEAR_MS ? 0 : policy.catchup_window_ms),
    };
    const group = (name, prefix, fields) => h("fieldset", {}, h("legend", {}, name), h("div.fields", {},
      fields.map((field) => this.add(prefix + field.name, { ...field, value: shown[field.name] }))));
    this.content = [
      isNew ? h("div.fields", {}, this.add("schedule_id", { name: "schedule_id", label: "Schedule id", required: true, placeholder: "reports", full: true })) : null,
      group("When it fires", "spec.", WHEN), this.calendars,
      h("div", {}, h("button.button.small", { type: "button", onclick: () => this.calendar({}, true) }, "Add a calendar")),
      h("details", { open: BOUNDS.some(({ name }) => shown[name]) }, h("summary", {}, "Time zone, jitter, first and last time"), group("Bounds", "spec.", BOUNDS)),
      group("What it starts", "action.", ACTION), group("How", "", POLICY),
    ];
    spec.calendars.forEach((calendar) => this.calendar(calendar, false));
    this.sent = JSON.stringify(this.action());
  }

  add(where, field) {
    const id = `wrong-${where.replaceAll(/\W/g, "-")}`;
    const element = input(field.kind === "lines" ? { ...field, kind: "json" } : field.kind === "span" ? { ...field, kind: "text" } : field);
    const fault = h("small.wrong", { id, role: "alert", hidden: true });
    element.setAttribute("aria-describedby", id);
    this.fields.set(where, { field, element, fault });
    const shown = labelled(field, element);
    shown.append(fault);
    return shown;
  }

  calendar(given, focus) {
    const at = this.numbers++;
    const box = h("fieldset", { "data-calendar": at }, h("legend", {}, "Calendar"), h("div.fields", {},
      CALENDAR.map(([name, label, preset]) => this.add(`calendar ${at}.${name}`, { name, label, value: given[name] ?? preset })),
      this.add(`calendar ${at}.comment`, { name: "comment", label: "Comment", value: given.comment ?? "", full: true })),
    h("p.muted.small", {}, "As in cron strings: *, 6,18, 1-5, */15, MON-FRI."),
    h("button.button.small", { type: "button", onclick: () => {
      box.remove();
      for (const key of [...this.fields.keys()]) if (key.startsWith(`calendar ${at}.`)) this.fields.delete(key);
    } }, "Remove this calendar"));
    this.calendars.append(box);
    if (focus) box.querySelector("input").focus();
  }

  first() {
    return this.fields.values().next().value.element;
  }

  text(where) {
    return this.fields.get(where).element.value.trim();
  }

  /** What was given in a field, as the API takes it; null if nothing was. */
  value(where) {
    const { field, element } = this.fields.get(where);
    try {
      if (field.required && !element.value.trim()) throw new Error("write something here");
      if (field.kind === "lines") return element.value.split("\n").map((line) => line.trim()).filter(Boolean);
      if (field.kind === "check") return element.checked;
      if (field.kind === "json") return valueOf(field, element);
      if (!element.value.trim()) return null;
      if (field.kind === "span") return milliseconds(element.value.trim());
      if (field.kind === "number" && !/^\d+$/.test(element.value.trim())) throw new Error("write a whole number");
      return field.kind === "number" ? Number(element.value) : valueOf(field, element);
    } catch (error) {
      throw new Wrong(where, error.message);
    }
  }

  values(prefix, fields) {
    return Object.fromEntries(fields.map(({ name }) => [name, this.value(prefix + name)]).filter(([, value]) => value !== null));
  }

  spec() {
    const intervals = this.value("spec.intervals").map((line, at) => {
      try {
        const [every, offset] = line.split("/");
        return { every_ms: milliseconds(every), offset_ms: offset ? milliseconds(offset) : 0 };
      } catch (error) {
        throw new Wrong(`spec.intervals[${at}]`, error.message);
      }
    });
    const names = [...CALENDAR.map(([name]) => name), "comment"];
    const calendars = [...this.calendars.children].map(({ dataset }) => Object.fromEntries(
      names.map((name) => [name, this.text(`calendar ${dataset.calendar}.${name}`) || (name === "comment" ? "" : "*")])));
    return { ...this.values("spec.", BOUNDS), cron_expressions: this.value("spec.cron_expressions"), intervals, calendars, skip: this.found.spec.skip };
  }

  action() {
    return ACTION.map(({ name }) => this.fields.get(`action.${name}`).element.value.trim());
  }

  /** The text of the body. Arguments stay as they were written, so that their numbers keep all digits. */
  body() {
    const parts = [];
    const put = (name, value) => parts.push(`${JSON.stringify(name)}:${typeof value === "string" ? value : JSON.stringify(value)}`);
    if (this.isNew) put("schedule_id", JSON.stringify(this.value("schedule_id")));
    put("spec", this.spec());
    if (this.isNew || JSON.stringify(this.action()) !== this.sent) {
      const { args, ...rest } = this.values("action.", ACTION);
      const kept = Object.fromEntries(Object.entries(this.found.action).filter(([name]) => name !== "args"));
      put("action", `${JSON.stringify({ ...kept, ...rest }).slice(0, -1)},"args":${args}}`);
    }
    const given = this.values("", POLICY);
    put("policy", { overlap: given.overlap, pause_on_failure: given.pause_on_failure, catchup_window_ms: given.catchup_window_ms ?? YEAR_MS });
    put("paused", given.paused);
    put("note", JSON.stringify(given.note ?? ""));
    put("remaining_actions", given.remaining_actions ?? null);
    if (!this.isNew) put("revision", this.found.revision);
    return `{${parts.join(",")}}`;
  }

  forgive() {
    for (const { element, fault } of this.fields.values()) {
      element.removeAttribute("aria-invalid");
      fault.hidden = true;
    }
  }

  /** Say what is wrong at the field that is meant; false if it is none of them. */
  blame(where, message) {
    const [, at, name] = where.match(/^\$\.spec\.calendars\[(\d+)\]\.(\w+)$/) ?? [];
    const plain = where.replace(/^\$\.(policy\.)?/, "").replace(/\[\d+\].*$/, "");
    const key = name ? `calendar ${this.calendars.children[at]?.dataset.calendar}.${name}` : this.fields.has(where) ? where : plain;
    const meant = this.fields.get(key);
    if (!meant) return false;
    fill(meant.fault, message.replace(/^(the body is wrong|spec\.\S+): /, "")).hidden = false;
    meant.element.setAttribute("aria-invalid", "true");
    meant.element.closest("details")?.setAttribute("open", "");
    meant.element.focus();
    return true;
  }
}

const written = ({ every_ms, offset_ms }) => span(every_ms) + (offset_ms ? `/${span(offset_ms)}` : "");
