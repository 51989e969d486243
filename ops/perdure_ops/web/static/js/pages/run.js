// The page of a run: what it is, what is pending, what happened, and what can be done. It follows the run.

import { follow, get, schedule, workflow } from "../api.js";
import { activityActions, runActions } from "../actions.js";
import { live } from "../app.js";
import { decoded } from "../codec.js";
import { fill, h, redraw, toast } from "../dom.js";
import { between, bytes, chip, code, duration, failure, moment, number, runChips } from "../format.js";
import { compact, full, json } from "../history.js";
import { every, gently } from "../live.js";
import { closing, parts } from "../story.js";
import { timeline } from "../timeline.js";
import { queries, stack, tree } from "./run_tabs.js";

const TABS = [["overview", "Overview"], ["history", "History"], ["tree", "Children"], ["queries", "Queries"], ["stack", "Stack"]];
const FORMS = [["compact", "Compact"], ["full", "Full"], ["json", "JSON"]];

export async function run({ page, signal, about, query }, id, run_id) {
  const first = await get(workflow(id), { run_id }, signal);
  document.title = `${id} · Perdure`;
  const state = { run: first, events: [], tab: query.get("tab") ?? "overview", form: query.get("form") ?? "compact", signal, namespace: about.namespace };
  const head = h("div", { class: "panel" });
  const tabs = h("div.tabs", { role: "tablist", "aria-label": "About this run" });
  const panel = h("div.panel", { role: "tabpanel", id: "panel" });
  fill(page, head, tabs, panel);

  const choose = (tab) => {
    state.tab = tab;
    history.replaceState(null, "", `${location.pathname}?tab=${tab}`);
    showTabs(tabs, state, choose);
    showPanel();
  };
  const showPanel = () => PANELS[state.tab in PANELS ? state.tab : "overview"](panel, state, showPanel);
  const showRun = async () => {
    state.run = await decoded(await get(workflow(id), { run_id: first.run_id }, signal), about.namespace);
    redraw(head, () => showHead(head, state.run));
    showTabs(tabs, state, choose);
    if (state.tab === "overview" || state.tab === "history") redraw(panel, showPanel);
  };
  const reload = gently(showRun, 250, signal, (error) => toast(error.message, true));

  state.run = await decoded(first, about.namespace);
  showHead(head, state.run);
  showTabs(tabs, state, choose);
  showPanel();
  every(1000, signal, () => {
    if (state.run.status === "RUNNING" && state.tab === "overview") redraw(panel, showPanel);
  });
  const from = () => ({ run_id: first.run_id, first_event_id: (state.events.at(-1)?.event_id ?? 0) + 1 });
  const take = async (message) => {
    const events = await decoded(message.events, about.namespace);
    const last = state.events.at(-1)?.event_id ?? 0;
    state.events.push(...events.filter((event) => event.event_id > last));
    reload();
  };
  follow(workflow(id, "/history/stream"), from, take, signal, live);
}

function showTabs(tabs, state, choose) {
  const count = { tree: state.run.pending_children.length, history: state.run.history_length }[state.tab];
  const focused = document.activeElement?.getAttribute("role") === "tab";
  fill(tabs, TABS.map(([name, title]) => h("button", {
    role: "tab", id: `tab-${name}`, "aria-selected": String(state.tab === name), "aria-controls": "panel", tabindex: state.tab === name ? "0" : "-1",
    onclick: () => choose(name),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) choose(TABS[(TABS.findIndex(([tab]) => tab === name) + step + TABS.length) % TABS.length][0]);
    },
  }, title, state.tab === name && count ? h("span.count.muted", {}, ` ${number(count)}`) : null)));
  if (focused) tabs.querySelector("[aria-selected='true']").focus();
}

// --- the head -----------------------------------------------------------------------------------------------------

const link = (id, run_id, text) => h("a.break", { href: `/workflows/${encodeURIComponent(id)}${run_id ? `/${run_id}` : ""}` }, text);
const fact = (name, value, wide = "") => (value === null || value === undefined || value === "" ? null : h("div", { class: wide }, h("dt", {}, name), h("dd", {}, value)));

function showHead(head, run) {
  fill(head,
    h("nav.crumbs", { "aria-label": "Where this is" }, h("a", { href: "/workflows" }, "Workflows"), " / ",
      run.parent ? [link(run.parent.workflow_id, run.parent.run_id, run.parent.workflow_id), " / "] : null, h("span.break", {}, run.workflow_id)),
    h("div.head", {}, h("div.title.grow", {}, h("h1", {}, run.workflow_id), h("span.chips", {}, runChips(run))), runActions(run)),
    notices(run),
    h("section.card", { "aria-label": "Facts" }, h("div.body", {}, h("dl.facts", {},
      fact("Type", run.workflow_type),
      fact("Task queue", h("a", { href: "/task-queues" }, run.task_queue)),
      fact("Started", moment(run.start_time)),
      fact(run.close_time ? "Closed" : "Running for", run.close_time ? moment(run.close_time) : between(run.start_time)),
      run.close_time ? fact("Took", between(run.start_time, run.close_time)) : null,
      fact("History", `${number(run.history_length)} events, ${bytes(run.history_bytes)}`),
      fact("Run id", h("span.mono", {}, run.run_id), "wide"),
      run.attempt > 1 ? fact("Attempt", run.attempt) : null,
      fact("Cron", run.cron_schedule),
      fact("Worker version", run.worker_version),
      run.continued_run_id ? fact("Run before", link(run.workflow_id, run.continued_run_id, "open")) : null,
      run.new_run_id ? fact("Run after", link(run.workflow_id, run.new_run_id, "open")) : null,
      fact("Summary", run.static_summary),
      fact("Current details", run.current_details, "wide"),
      Object.entries(run.search_attributes).map(([name, attribute]) => fact(name, name === "ScheduledById" ? h("a.break", { href: schedule(attribute.value) }, attribute.value) : String(attribute.value))),
      Object.entries(run.memo).map(([name, value]) => fact(`memo: ${name}`, JSON.stringify(value)))))));
}

function notices(run) {
  const task = run.pending_workflow_task;
  return [
    run.quarantine_reason ? h("div.notice.bad", { role: "alert" }, h("div", {}, h("strong", {}, "Quarantined. "), run.quarantine_reason,
      " Repair the cause, then lift the quarantine under More.")) : null,
    run.stuck_reason ? h("div.notice.bad", { role: "alert" }, h("div", {}, h("strong", {}, "Its workflow task fails again and again. "), run.stuck_reason,
      ". Mend the code and restart the worker; or reset, or terminate the run.", task?.last_failure ? failure(task.last_failure) : null)) : null,
    run.paused ? h("div.notice.held", {}, h("div", {}, h("strong", {}, "Paused"), run.pause_reason ? `: ${run.pause_reason}` : ". Nothing of it is handed out until it is unpaused.")) : null,
  ];
}

// --- the panels ---------------------------------------------------------------------------------------------------

const PANELS = {
  overview(panel, state) {
    const { run, events } = state;
    const found = parts(events);
    fill(panel, pending(run), values(run, events),
      h("section.card", { "aria-label": "Timeline" }, h("header", {}, h("h2", {}, "Timeline")), timeline(found, run)));
  },
  history(panel, state, again) {
    const { run, events } = state;
    const key = `${state.form}/${events.length}`;
    if (panel.dataset.history === key && panel.querySelector("[data-shown]")) return;
    panel.dataset.history = key;
    const forms = h("div.segments", { role: "group", "aria-label": "Form" }, FORMS.map(([name, title]) =>
      h("button", { "aria-pressed": String(state.form === name), onclick: () => { state.form = name; again(); } }, title)));
    const shown = { compact: () => compact(parts(events), events), full: () => full(events), json: () => h("div.body", {}, json(events)) }[state.form]();
    fill(panel, h("section.card", { "aria-label": "History", "data-shown": state.form }, h("header", {}, h("h2", {}, "History"), forms,
      h("a.button.small", { href: "#", onclick: (event) => { event.preventDefault(); download(state); } }, "Download")), shown));
  },
  tree(panel, state) { tree(panel, state); },
  queries(panel, state) { queries(panel, state); },
  stack(panel, state) { stack(panel, state); },
};

/** The document that replayers read, as a file. */
async function download({ run }) {
  try {
    const document_ = await get(workflow(run.workflow_id, "/history/document"), { run_id: run.run_id });
    const address = URL.createObjectURL(new Blob([JSON.stringify(document_, null, 2)], { type: "application/json" }));
    h("a", { href: address, download: `${run.workflow_id}.json` }).click();
    URL.revokeObjectURL(address);
  } catch (error) {
    toast(error.message, true);
  }
}

function pending(run) {
  if (run.status !== "RUNNING") return null;
  const task = run.pending_workflow_task;
  if (!run.pending_activities.length && !task) return null;
  return h("section.card", { "aria-label": "Pending" }, h("header", {}, h("h2", {}, "Pending")), h("div.pending", {},
    run.pending_activities.map((activity) => activityCard(run, activity)),
    task ? h("article", {}, h("div.row", {}, h("strong.grow", {}, "Workflow task"), chip(task.attempt > 1 ? "BACKING_OFF" : "SCHEDULED", `attempt ${task.attempt}`)),
      h("p.small.muted", {}, "Scheduled ", moment(task.scheduled_time), ". It waits for a worker of task queue ", run.task_queue, "."), failure(task.last_failure)) : null));
}

function activityCard(run, activity) {
  const limit = activity.maximum_attempts ? ` of ${activity.maximum_attempts}` : "";
  const next = activity.next_attempt_time ? new Date(activity.next_attempt_time) - Date.now() : null;
  return h("article", { "data-activity": activity.activity_id },
    h("div.row", {}, h("div.grow", {}, h("strong.break", {}, activity.activity_type), " ", chip(activity.state), h("span.sub", {}, `id ${activity.activity_id} on ${activity.task_queue}`)),
      activityActions(run, activity)),
    h("dl.facts", {},
      fact("Attempt", `${activity.attempt}${limit}`),
      fact("Next attempt", activity.paused ? "when unpaused" : next === null ? null : next > 0 ? `in ${duration(next)}` : "now"),
      fact("Scheduled", moment(activity.scheduled_time)),
      activity.started_time ? fact("Attempt began", moment(activity.started_time)) : null,
      activity.last_heartbeat_time ? fact("Last heartbeat", moment(activity.last_heartbeat_time)) : null,
      fact("Paused because", activity.pause_reason)),
    activity.heartbeat_details.length ? h("div", {}, h("p.small.muted", {}, "It last said:"),
      code(activity.heartbeat_details.length === 1 ? activity.heartbeat_details[0] : activity.heartbeat_details)) : null,
    failure(activity.last_failure));
}

function values(run, events) {
  const start = events[0]?.attributes;
  const end = closing(events);
  const block = (title, value) => h("section.card", { "aria-label": title }, h("header", {}, h("h2", {}, title)), h("div.body", {}, value));
  const only = (list) => (list?.length === 1 ? list[0] : list ?? []);
  let outcome = h("p.muted", {}, run.status === "RUNNING" ? "It still runs." : "It has none.");
  if (end?.attributes.failure) outcome = failure(end.attributes.failure);
  else if (end?.attributes.result) outcome = code(only(end.attributes.result));
  else if (end?.attributes.reason) outcome = h("p", {}, end.attributes.reason);
  const input = start?.input?.length ? code(only(start.input)) : h("p.muted", {}, start ? "None." : "Loading …");
  return h("div.columns", {}, block("Input", input), block(end?.attributes.failure ? "Failure" : "Result", outcome));
}
