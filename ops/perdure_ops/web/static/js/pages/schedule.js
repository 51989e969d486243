// The page of a schedule: when it fires, by which policies, what it did, what it left out and why. It follows it.

import { follow, get, schedule as path } from "../api.js";
import { live } from "../app.js";
import { decoded } from "../codec.js";
import { fill, h, redraw } from "../dom.js";
import { chip, code, duration, exact, moment, number } from "../format.js";
import { every } from "../live.js";
import { scheduleActions } from "../schedule_actions.js";
import { state } from "./schedules.js";

const SHOWN_NEXT = 5;
const POLICIES = {
  SKIP: "skip the fire", BUFFER_ONE: "let one fire wait", BUFFER_ALL: "let all fires wait", CANCEL_OTHER: "cancel the running one",
  TERMINATE_OTHER: "terminate the running one", ALLOW_ALL: "run both",
};
const REASONS = {
  OVERLAP: "skipped: one was running", CATCHUP_WINDOW: "missed: later than the catch-up window", BUFFER_FULL: "dropped: the buffer was full",
  PAUSED: "it waited, and the schedule was paused", NO_ACTIONS_REMAIN: "it waited, and no actions remained", START_REFUSED: "the start was refused",
};

export async function schedule({ page, signal, about }, id) {
  const shown = { found: await decoded(await get(path(id), {}, signal), about.namespace) };
  document.title = `${id} · Perdure`;
  const content = h("div.panel");
  const draw = () => redraw(content, () => show(content, shown.found));
  fill(page, h("nav.crumbs", { "aria-label": "Where this is" }, h("a", { href: "/schedules" }, "Schedules"), " / ", h("span.break", {}, id)), content);
  show(content, shown.found);
  every(5_000, signal, draw);
  const take = async (message) => {
    shown.found = await decoded(message, about.namespace);
    draw();
  };
  follow(path(id, "/stream"), () => ({}), take, signal, (now, problem) => {
    live(problem?.status === 404 ? "ended" : now);
    if (problem?.status === 404) {
      fill(content, h("div.card.empty", { role: "alert" }, h("h2", {}, "This schedule was deleted"), h("p", {}, "Workflows that it has started go on."),
        h("a.button", { href: "/schedules" }, "All schedules")));
    }
  });
}

const run = (id, run_id) => h("a.break", { href: `/workflows/${encodeURIComponent(id)}/${run_id}` }, id);
const fact = (name, value, wide = "") => (value === null || value === undefined || value === "" ? null : h("div", { class: wide }, h("dt", {}, name), h("dd", {}, value)));
const card = (name, ...content) => h("section.card", { "aria-label": name }, h("header", {}, h("h2", {}, name)), content);
const time = (text) => h("time", { datetime: text }, exact(new Date(text)).slice(0, 19));

function show(content, found) {
  const { action } = found;
  const input = action.args.length === 1 ? action.args[0] : action.args;
  fill(content,
    h("div.head", {}, h("div.title.grow", {}, h("h1", {}, found.schedule_id), h("span.chips", {}, state(found))), scheduleActions(found)),
    found.paused ? h("div.notice.held", {}, h("div", {}, h("strong", {}, "Paused"), found.note ? `: ${found.note}` : ". It fires by hand only.")) : null,
    card("Spec", h("div.body", {}, h("dl.facts", {}, facts(found)))),
    h("div.columns", {}, card("Next runs", next(found)),
      card("Starts", h("div.body.panel", {}, h("dl.facts", {}, fact("Type", action.workflow_type),
        fact("Task queue", h("a", { href: "/task-queues" }, action.task_queue)),
        fact("Workflow id", h("span.mono", {}, `${action.workflow_id}-<time>`), "wide")), action.args.length ? code(input) : h("p.muted", {}, "No arguments.")))),
    card("Recent runs", recent(found)),
    card("Left out", omitted(found)));
}

function facts(found) {
  const { spec, policy } = found;
  return [
    fact("Fires", found.spec_text, "wide"),
    spec.cron_expressions.length ? fact("Cron", h("span.mono", {}, spec.cron_expressions.join("; "))) : null,
    fact("While one runs", POLICIES[policy.overlap]),
    fact("May be late by", duration(policy.catchup_window_ms)),
    fact("After a failure", policy.pause_on_failure ? "it is paused" : "it goes on"),
    fact("Fires left", found.remaining_actions === null ? null : number(found.remaining_actions)),
    fact("Note", found.paused ? null : found.note),
    fact("Created", moment(found.created_time)),
    found.updated_time ? fact("Updated", moment(found.updated_time)) : null,
    fact("Runs started", number(found.num_actions)),
    fact("Skipped, one was running", number(found.num_actions_skipped_overlap)),
    fact("Missed, too late", number(found.num_actions_missed_catchup_window)),
    found.num_actions_dropped_buffer ? fact("Dropped, buffer full", number(found.num_actions_dropped_buffer)) : null,
    found.num_actions_refused ? fact("Starts refused", number(found.num_actions_refused)) : null,
    found.buffered ? fact("Waiting", number(found.buffered)) : null,
    Object.entries(found.search_attributes).map(([name, attribute]) => fact(name, String(attribute.value))),
    Object.entries(found.memo).map(([name, value]) => fact(`memo: ${name}`, JSON.stringify(value))),
  ];
}

function next(found) {
  const times = found.next_times.filter((text) => new Date(text) > Date.now()).slice(0, SHOWN_NEXT);
  if (!times.length) return h("div.body", {}, h("p.muted", {}, "None by its spec: it fires by hand only."));
  return h("div.body.panel", {}, found.paused ? h("p.muted", {}, "It is paused. Unpaused, it would fire at:") : null,
    h("table", {}, h("tbody", {}, times.map((text) => h("tr", {}, h("td.nowrap", {}, time(text)), h("td.nowrap.muted", {}, moment(text)))))));
}

function recent(found) {
  const newest = [...found.recent].reverse();
  const older = found.running.filter((fire) => !newest.some((one) => one.run_id === fire.run_id)).reverse();
  const fires = [...newest, ...older];
  if (!fires.length) return h("div.body", {}, h("p.muted", {}, "It has started nothing yet. Trigger fires it once now."));
  return h("table.stack", {}, h("thead", {}, h("tr", {}, ["Status", "Workflow", "Due", "Started"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, fires.map((fire) => h("tr", {}, h("td", {}, h("span.chips", {}, chip(fire.status), fire.manual ? h("span.chip", {}, "by hand") : null)),
      h("td.full", {}, run(fire.workflow_id, fire.run_id)),
      h("td.nowrap", { "data-label": "due" }, time(fire.scheduled_time)),
      h("td.nowrap", { "data-label": "started" }, moment(fire.started_time))))));
}

function omitted(found) {
  if (!found.omitted.length) return h("div.body", {}, h("p.muted", {}, "Every fire has started a workflow."));
  return h("table.stack", {}, h("thead", {}, h("tr", {}, ["Due", "Why", "Detail"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, [...found.omitted].reverse().map((gap) => h("tr", {}, h("td.nowrap", {}, time(gap.nominal_time)),
      h("td", {}, REASONS[gap.reason] ?? gap.reason), h("td.break.muted", {}, gap.detail)))));
}
