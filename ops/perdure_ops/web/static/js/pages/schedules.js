// The list of schedules: when each fires, whether it does, and what it did. It follows what changes.

import { follow, get, Problem, schedule } from "../api.js";
import { go, live } from "../app.js";
import { fill, h, redraw, toast } from "../dom.js";
import { chip, moment, statusName } from "../format.js";
import { every, gently } from "../live.js";

const PAGE_SIZE = 50;
const QUESTIONS = [["", "All"], ["TemporalSchedulePaused = false", "Active"], ["TemporalSchedulePaused = true", "Paused"]];

export async function schedules({ page, signal, query: address }) {
  document.title = "Schedules · Perdure";
  const state = { filter: address.get("query") ?? "", tokens: [""], found: null };
  const wrong = h("p.wrong", { id: "filter-wrong", role: "alert", hidden: true });
  const list = h("section.card", { "aria-label": "Schedules", "aria-busy": "true" }, h("div.empty", {}, "Loading …"));

  async function load() {
    state.found = await get("/schedules", { query: state.filter, page_size: PAGE_SIZE, page_token: state.tokens.at(-1) }, signal);
    wrong.hidden = true;
    list.setAttribute("aria-busy", "false");
    show();
  }
  const show = () => redraw(list, () => showSchedules(list, state, choose, reload));
  const choose = (filter) => go(`/schedules${filter ? `?${new URLSearchParams({ query: filter })}` : ""}`);
  const reload = gently(load, 400, signal, (error) => {
    if (error instanceof Problem && error.status === 400) {
      fill(wrong, error.message).hidden = false;
      list.setAttribute("aria-busy", "false");
      fill(list, h("div.empty", {}, h("h2", {}, "The filter cannot be read"), h("p", {}, "See above what is wrong, or begin anew."),
        h("button.button", { onclick: () => choose("") }, "Clear the filter")));
    } else {
      toast(error.message, true);
    }
  });

  fill(page, h("div.head", {}, h("h1", {}, "Schedules"), h("a.button.main", { href: "/new-schedule" }, "Create a schedule")), filterBar(state, choose, wrong), wrong,
    h("div.chips", { role: "group", "aria-label": "Which" }, QUESTIONS.map(([filter, name]) => h("button.chip", {
      "aria-pressed": String(state.filter === filter), onclick: () => choose(filter) }, name))), list);
  await load().catch((error) => { if (error.status === 400) reload(); else throw error; });
  every(5_000, signal, () => { if (state.found && wrong.hidden) show(); });
  follow("/workflow-changes", () => ({}), reload, signal, live);
}

function filterBar(state, choose, wrong) {
  const input = h("input.mono", {
    id: "filter", type: "search", value: state.filter, spellcheck: "false", autocomplete: "off", "aria-describedby": wrong.id,
    placeholder: "ScheduleId STARTS_WITH 'report' AND TemporalSchedulePaused = false", "aria-label": "Filter",
  });
  return h("form.row.search", { role: "search", onsubmit: (event) => { event.preventDefault(); choose(input.value.trim()); } },
    h("div.grow", {}, input), h("button.button", {}, "Filter"));
}

function showSchedules(list, state, choose, reload) {
  const { schedules: rows, next_page_token: next } = state.found;
  const isFirst = state.tokens.length === 1;
  if (!rows.length && isFirst) return fill(list, empty(state, choose));
  return fill(list, h("table.stack", {},
    h("thead", {}, h("tr", {}, ["Schedule", "Fires", "State", "Next run", "Recent runs"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(row))),
  isFirst && !next ? null : h("div.pager", {},
    h("button.button.small", { disabled: isFirst, onclick: () => { state.tokens.pop(); reload(); } }, "← Before"),
    h("span.muted.small", {}, `Page ${state.tokens.length}`),
    h("button.button.small", { disabled: !next, onclick: () => { state.tokens.push(next); reload(); } }, "After →")));
}

function row(found) {
  const next = found.next_times.find((time) => new Date(time) > Date.now());
  return h("tr", { "data-schedule": found.schedule_id },
    h("td.full", {}, h("a.break", { href: schedule(found.schedule_id) }, found.schedule_id), h("span.sub", {}, found.workflow_type)),
    h("td.full.break", {}, found.spec_text),
    h("td", {}, state(found), found.note ? h("span.sub", {}, found.note) : null),
    h("td.nowrap", { "data-label": "next" }, found.paused ? "when unpaused" : next ? moment(next) : "none"),
    h("td", {}, found.recent.length ? h("span.chips", {}, [...found.recent].reverse().map(fire)) : h("span.muted", {}, "no runs yet")));
}

/** Whether a schedule fires by its spec, as a chip. */
export const state = (found) => (found.paused ? chip("PAUSED") : chip("COMPLETED", "Active"));

function fire(found) {
  return h("a.chip", { class: found.status.toLowerCase(), title: `${found.workflow_id}, due ${found.scheduled_time}`,
    href: `/workflows/${encodeURIComponent(found.workflow_id)}/${found.run_id}` }, statusName(found.status));
}

function empty(state, choose) {
  if (state.filter) {
    return h("div.empty", {}, h("h2", {}, "No schedule matches"), h("p", {}, "Names and values are compared exactly; texts stand in single quotes."),
      h("button.button", { onclick: () => choose("") }, "Show all schedules"));
  }
  return h("div.empty", {}, h("h2", {}, "No schedules yet"),
    h("p", {}, "Make one: from your program, here, or on the command line. It appears at once."),
    h("pre.code", {}, "perdure schedule create -s reports --cron \"0 6 * * MON-FRI\" \\\n    --type Report --task-queue reports --workflow-id report"),
    h("a.button.main", { href: "/new-schedule" }, "Create a schedule"));
}
