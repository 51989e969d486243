// The history of a run, in three forms: what happened, each event, and JSON.

import { h } from "./dom.js";
import { between, clock, code, duration, failure } from "./format.js";
import { closing, stateOf } from "./story.js";

const NOISE = new Set(["workflow_task_completed_event_id", "sdk_flags", "sticky_worker_id", "start_command_id", "command_id", "header", "last_event_id", "eager_event_id", "eager_worker_id"]);
const LINE_MAX = 140;

export function compact(parts, events) {
  const first = events[0];
  const last = closing(events);
  const rows = parts.map((part) => partRow(part));
  if (first) rows.unshift(eventRow(first, "Started", first.attributes.workflow_type));
  if (last) rows.push(eventRow(last, last.event_type.replace("WorkflowExecution", "").replace(/(?!^)([A-Z])/g, " $1"), ""));
  return h("table.events.stack", {}, h("tbody", {}, rows));
}

function partRow(part) {
  const link = part.kind === "Child" ? h("a.small.break", { href: `/workflows/${encodeURIComponent(part.id)}` }, part.id) : null;
  return h("tr", {}, h("td.nowrap.muted", {}, clock(part.start)), h("td", {},
    h("details", {}, h("summary", {}, h("span", { class: `dot ${part.state}` }), h("span.muted", {}, `${part.kind} `), h("strong.break", {}, part.name),
      h("span.muted.small", {}, ` ${outcome(part)} `), link),
    part.failure ? failure(part.failure) : null,
    part.events.map((event) => [h("p.small.muted", {}, `${event.event_id} ${event.event_type}`), code(trimmed(event.attributes))]))));
}

function eventRow(event, kind, name) {
  return h("tr", {}, h("td.nowrap.muted", {}, clock(new Date(event.event_time))), h("td", {},
    h("details", {}, h("summary", {}, h("span", { class: `dot ${stateOf(event)}` }), h("span.muted", {}, `${kind} `), h("strong.break", {}, name)),
      event.attributes.failure ? failure(event.attributes.failure) : null, code(trimmed(event.attributes)))));
}

function outcome(part) {
  if (part.isPoint) return "";
  const took = between(part.start, part.end);
  const planned = part.kind === "Timer" && part.note ? ` of ${duration(part.note)}` : "";
  return part.end ? `${part.state.replace("_", " ")} after ${took}${planned}` : `open for ${took}${planned}`;
}

export function full(events) {
  return h("table.events.stack", {},
    h("thead", {}, h("tr", {}, ["#", "Time", "Event"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, events.map((event) => h("tr", {},
      h("td.id.nowrap", { "data-label": "#" }, event.event_id),
      h("td.nowrap.muted", {}, clock(new Date(event.event_time))),
      h("td.full", {}, h("details", {}, h("summary", {}, h("span", { class: `dot ${stateOf(event)}` }), h("strong", {}, event.event_type), " ",
        h("span.small.muted.break", {}, line(event.attributes))),
      event.attributes.failure ? failure(event.attributes.failure) : null, code(event.attributes)))))));
}

export const json = (events) => code(events);

function trimmed(attributes) {
  const { failure: _, ...rest } = attributes;
  return Object.fromEntries(Object.entries(rest).filter(([name]) => !NOISE.has(name)));
}

/** The details of an event in one line. */
function line(attributes) {
  const { options, ...rest } = trimmed(attributes);
  const words = Object.entries({ ...options, ...rest }).filter(([name]) => !NOISE.has(name))
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");
  return words.length > LINE_MAX ? `${words.slice(0, LINE_MAX)} …` : words;
}
