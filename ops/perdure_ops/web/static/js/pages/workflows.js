// The list of runs: filter, views, statuses, pages; it follows what changes.

import { follow, get, Problem } from "../api.js";
import { go, live } from "../app.js";
import { ask } from "../dialogs.js";
import { fill, h, toast } from "../dom.js";
import { between, exact, moment, number, runChips, statusName } from "../format.js";
import { every, gently } from "../live.js";
import * as views from "../views.js";

const PAGE_SIZE = 50;
const STATUSES = ["RUNNING", "COMPLETED", "FAILED", "TIMED_OUT", "CANCELED", "TERMINATED", "CONTINUED_AS_NEW"];
const WRITTEN = { TIMED_OUT: "TimedOut", CONTINUED_AS_NEW: "ContinuedAsNew" };
const written = (status) => WRITTEN[status] ?? statusName(status);

export async function workflows({ page, signal, query: address }) {
  document.title = "Workflows · Perdure";
  const state = { filter: address.get("query") ?? "", status: address.get("status") ?? "", tokens: [""], seen: new Map() };
  const chips = h("div.chips", { role: "group", "aria-label": "Statuses" });
  const wrong = h("p.wrong", { id: "filter-wrong", role: "alert", hidden: true });
  const list = h("section.card", { "aria-label": "Runs", "aria-busy": "true" }, h("div.empty", {}, "Loading …"));

  const full = () => [condition(state.filter), state.status ? `ExecutionStatus = '${written(state.status)}'` : ""]
    .filter(Boolean).join(" AND ") + ordering(state.filter);

  async function load() {
    const grouped = `${condition(state.filter)} GROUP BY ExecutionStatus`.trim();
    const [found, counted] = await Promise.all([
      get("/workflows", { query: full(), page_size: PAGE_SIZE, page_token: state.tokens.at(-1) }, signal),
      get("/workflow-count", { query: grouped }, signal),
    ]);
    wrong.hidden = true;
    showChips(counted);
    showRuns(found);
  }
  const reload = gently(load, 400, signal, (error) => {
    if (error instanceof Problem && error.status === 400) {
      fill(wrong, error.message).hidden = false;
      list.setAttribute("aria-busy", "false");
      fill(list, h("div.empty", {}, h("h2", {}, "The filter cannot be read"), h("p", {}, "See above what is wrong, or begin anew."),
        h("button.button", { onclick: () => choose("", "") }, "Clear the filter")));
    } else if (error instanceof Problem && error.status === 401) {
      go(location.pathname + location.search, true);
    } else {
      toast(error.message, true);
    }
  });

  function choose(filter, status) {
    const found = new URLSearchParams(Object.entries({ query: filter, status }).filter(([, value]) => value));
    go(`/workflows${found.size ? `?${found}` : ""}`);
  }

  function showChips(counted) {
    const counts = Object.fromEntries(counted.groups.map((group) => [group.values[0], group.count]));
    const button = (status, name, count) => h("button.chip", {
      class: status.toLowerCase() || "all", "aria-pressed": String(state.status === status),
      onclick: () => choose(state.filter, state.status === status ? "" : status),
    }, name, h("span.count", {}, number(count)));
    fill(chips, button("", "All", counted.count),
      STATUSES.filter((status) => counts[written(status)] || state.status === status)
        .map((status) => button(status, statusName(status), counts[written(status)] ?? 0)));
  }

  function showRuns(found) {
    list.setAttribute("aria-busy", "false");
    const isFirst = state.tokens.length === 1;
    if (!found.runs.length && isFirst && !found.next_page_token) return fill(list, empty(state, choose));
    const focused = document.activeElement?.closest?.("tr")?.dataset.run;
    fill(list, !found.runs.length ? h("p.empty", {}, found.next_page_token ? "Many runs were looked at, and none matches. Look on among the older ones." : "No older run matches.") : h("table.stack", {},
      h("thead", {}, h("tr", {}, ["Status", "Workflow", "Type", "Task queue", "Started", "Took"].map((name) => h("th", { scope: "col" }, name)),
        h("th.number", { scope: "col" }, "Events"))),
      h("tbody", {}, found.runs.map((run) => row(run, state)))),
    isFirst && !found.next_page_token ? null : h("div.pager", {},
      h("button.button.small", { disabled: isFirst, onclick: () => { state.tokens.pop(); reload(); } }, "← Newer"),
      h("span.muted.small", {}, `Page ${state.tokens.length}`),
      h("button.button.small", { disabled: !found.next_page_token, onclick: () => { state.tokens.push(found.next_page_token); reload(); } }, "Older →")));
    if (focused) list.querySelector(`tr[data-run="${CSS.escape(focused)}"] a`)?.focus();
  }

  fill(page,
    h("div.head", {}, h("h1", {}, "Workflows"), h("a.button.main", { href: "/start" }, "Start a workflow")),
    filterBar(state, choose, wrong), wrong, chips, list);
  await load().catch((error) => { if (error.status === 400) reload(); else throw error; });
  every(20_000, signal, () => list.querySelectorAll("time").forEach((time) => time.replaceWith(moment(time.getAttribute("datetime")))));
  follow("/workflow-changes", () => ({}), reload, signal, live);
}

/** The condition of a filter, without its ORDER BY, so that another condition can be added. */
function condition(filter) {
  const found = filter.replace(/\border\s+by\b.*$/is, "").trim();
  return found && / or /i.test(found) ? `(${found})` : found;
}

const ordering = (filter) => (filter.match(/\border\s+by\b.*$/is) ? ` ${filter.match(/\border\s+by\b.*$/is)[0]}` : "");

function row(run, state) {
  const key = JSON.stringify([run.status, run.history_length, run.paused, run.stuck_reason]);
  const isFresh = state.seen.size && state.seen.get(run.run_id) !== key;
  state.seen.set(run.run_id, key);
  const address = `/workflows/${encodeURIComponent(run.workflow_id)}/${run.run_id}`;
  return h("tr", { "data-run": run.run_id, class: isFresh ? "fresh" : "" },
    h("td", {}, h("span.chips", {}, runChips(run))),
    h("td.full", {}, h("a.break", { href: address }, run.workflow_id), h("span.sub.mono.wide-only", {}, run.run_id)),
    h("td.break", {}, run.workflow_type),
    h("td.break", { "data-label": "on" }, run.task_queue),
    h("td.nowrap", { "data-label": "started" }, moment(run.start_time)),
    h("td.nowrap", { "data-label": run.close_time ? "took" : "for", title: run.close_time ? `closed ${exact(new Date(run.close_time))}` : null },
      between(run.start_time, run.close_time)),
    h("td.number.wide-only", {}, run.close_time ? number(run.history_length) : ""));
}

function filterBar(state, choose, wrong) {
  const input = h("input.mono", {
    id: "filter", type: "search", value: state.filter, spellcheck: "false", autocomplete: "off", "aria-describedby": wrong.id,
    placeholder: "WorkflowType = 'Order' AND StartTime > '2026-01-31'", "aria-label": "Filter",
  });
  const entry = (view, more) => h("button", { type: "button", onclick: () => choose(view.query, "") }, view.name, more);
  const menu = h("details.menu", {}, h("summary.button", {}, "Views ▾"), h("div", {},
    views.builtin.map((view) => entry(view)),
    views.saved().map((view) => h("div.row", {}, h("span.grow", {}, entry(view)),
      h("button", { type: "button", title: `Forget the view ${view.name}`, "aria-label": `Forget the view ${view.name}`,
        onclick: () => { views.forget(view.name); choose(state.filter, state.status); } }, "×"))),
    h("button", { type: "button", disabled: !state.filter, onclick: async () => {
      const given = await ask({ title: "Save this view", action: "Save", fields: [{ name: "name", label: "Name", required: true }] });
      if (!given) return;
      views.save(given.name, state.filter);
      choose(state.filter, state.status);
    } }, "Save this filter …")));
  return h("form.row.search", { role: "search", onsubmit: (event) => { event.preventDefault(); choose(input.value.trim(), state.status); } },
    h("div.grow", {}, input), h("button.button", {}, "Filter"), menu);
}

function empty(state, choose) {
  if (state.filter || state.status) {
    return h("div.empty", {}, h("h2", {}, "No run matches"),
      h("p", {}, "Names and values are compared exactly; texts stand in single quotes."),
      h("button.button", { onclick: () => choose("", "") }, "Show all runs"));
  }
  return h("div.empty", {}, h("h2", {}, "No workflows yet"),
    h("p", {}, "Start a worker, then a workflow: from your program, here, or on the command line. It appears at once."),
    h("pre.code", {}, "perdure workflow start --type Greeting --task-queue greetings --input '\"world\"'"),
    h("a.button.main", { href: "/start" }, "Start a workflow"));
}
