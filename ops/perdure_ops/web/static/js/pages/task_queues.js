// Task queues: what waits, what runs, and who works.

import { get } from "../api.js";
import { fill, h, redraw, toast } from "../dom.js";
import { chip, duration, moment, number } from "../format.js";
import { every, gently } from "../live.js";

const REFRESH_MS = 2000;
const KINDS = { workflow: "Workflow tasks", activity: "Activities", query: "Queries" };

export async function taskQueues({ page, signal }) {
  document.title = "Task queues · Perdure";
  const list = h("div.panel", { "aria-live": "off" });
  const load = async () => {
    const found = await get("/task-queues", {}, signal);
    redraw(list, () => fill(list, found.task_queues.length ? found.task_queues.map(card) : empty()));
  };
  fill(page, h("div.head", {}, h("h1", {}, "Task queues"), h("span.muted.small", {}, "as workers' heartbeats say, every two seconds")), list);
  await load();
  const reload = gently(load, 500, signal, (error) => toast(error.message, true));
  every(REFRESH_MS, signal, reload);
}

function card(queue) {
  const idle = !queue.workers.length && queue.tasks.some((tasks) => tasks.backlog);
  return h("section.card", { "aria-label": queue.name }, h("header", {}, h("h2.break", {}, queue.name),
    queue.workers.length ? chip("completed", `${queue.workers.length} worker${queue.workers.length > 1 ? "s" : ""}`) : h("span.chip.failed", {}, "no worker")),
  idle ? h("div.body", {}, h("div.notice.warn", {}, h("div", {}, "Tasks wait and nobody takes them. Start a worker with ", h("code", {}, `task_queue="${queue.name}"`), "."))) : null,
  h("table.stack", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Tasks"),
    ["Backlog", "Oldest waits for", "Running", "Held back"].map((name) => h("th.number", { scope: "col" }, name)))),
  h("tbody", {}, Object.entries(KINDS).map(([kind, name]) => row(name, queue.tasks.find((tasks) => tasks.kind === kind))).filter(Boolean))),
  queue.workers.length ? h("details", {}, h("summary.fold", {}, "Workers"), workers(queue)) : null);
}

function row(name, tasks) {
  const none = { backlog: 0, oldest_age_ms: 0, running: 0, parked: 0 };
  if (!tasks && name === KINDS.query) return null;
  const found = tasks ?? none;
  return h("tr", {}, h("td", {}, name), h("td.number", { "data-label": "Backlog" }, number(found.backlog)),
    h("td.number", { "data-label": "Oldest waits for" }, found.backlog ? duration(found.oldest_age_ms) : "–"),
    h("td.number", { "data-label": "Running" }, number(found.running)), h("td.number", { "data-label": "Held back" }, number(found.parked)));
}

function workers(queue) {
  return h("table.stack", {}, h("thead", {}, h("tr", {}, ["Worker", "Version", "Slots", "Heartbeat"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, queue.workers.map((worker) => h("tr", {},
      h("td", {}, worker.identity || "–", " ", worker.draining ? chip("DRAINING") : null, h("span.sub.mono", {}, worker.worker_id)),
      h("td", { "data-label": "Version" }, worker.version || "–"),
      h("td", { "data-label": "Slots" }, `${worker.workflow_slots} workflow, ${worker.activity_slots} activity, ${worker.running} busy`),
      h("td", { "data-label": "Heartbeat" }, moment(worker.last_heartbeat_time))))));
}

function empty() {
  return h("div.card.empty", {}, h("h2", {}, "No task queue is in use"),
    h("p", {}, "One appears when a worker starts on it, or a workflow waits in it."),
    h("pre.code", {}, "async with Worker(client, task_queue=\"greetings\", workflows=[Greeting]):\n    ..."));
}
