// The form that starts a workflow.

import { get, post, withText } from "../api.js";
import { go } from "../app.js";
import { input, labelled, valueOf } from "../dialogs.js";
import { fill, h } from "../dom.js";

const MAIN = [
  { name: "workflow_type", label: "Workflow type", required: true, placeholder: "Order" },
  { name: "task_queue", label: "Task queue", required: true, placeholder: "orders", list: "queues" },
  { name: "workflow_id", label: "Workflow id", hint: "A random one if empty.", full: true },
  { name: "args", label: "Arguments", kind: "json", hint: "A JSON list, one entry for each argument; empty for none.", list_only: true, full: true },
];
const MORE = [
  { name: "id_conflict_policy", label: "If a running workflow has the id", kind: "select", options: [["UNSPECIFIED", "refuse"], ["USE_EXISTING", "use it"], ["TERMINATE_EXISTING", "terminate it"]] },
  { name: "id_reuse_policy", label: "If a closed workflow has the id", kind: "select", options: [["ALLOW_DUPLICATE", "start another"], ["ALLOW_DUPLICATE_FAILED_ONLY", "start another if it failed"], ["REJECT_DUPLICATE", "refuse"]] },
  { name: "run_timeout_ms", label: "Longest time of a run (ms)", kind: "number" },
  { name: "start_delay_ms", label: "Begin after (ms)", kind: "number" },
  { name: "cron_schedule", label: "Cron schedule", placeholder: "0 12 * * MON-FRI" },
  { name: "static_summary", label: "Summary", hint: "A line about it, for people." },
  { name: "memo", label: "Memo", kind: "json", hint: "A JSON object.", empty: "{}", full: true },
];
const NUMBERS = new Set(["run_timeout_ms", "start_delay_ms"]);
const TEXTS = new Set(["args", "memo"]);

export async function start({ page, signal, query }) {
  document.title = "Start a workflow · Perdure";
  const fields = [...MAIN, ...MORE].map((field) => ({ ...field, value: query.get(field.name) ?? field.value }));
  const inputs = Object.fromEntries(fields.map((field) => [field.name, input(field)]));
  const wrong = h("p.wrong", { role: "alert", hidden: true });
  const queues = h("datalist", { id: "queues" });
  const button = h("button.button.main", {}, "Start");
  const show = (names) => fields.filter((field) => names.some(({ name }) => name === field.name)).map((field) => labelled(field, inputs[field.name]));

  async function submit(event) {
    event.preventDefault();
    wrong.hidden = true;
    button.disabled = true;
    try {
      const started = await post("/workflows", body(fields, inputs));
      go(`/workflows/${encodeURIComponent(started.workflow_id)}/${started.run_id}`);
    } catch (error) {
      fill(wrong, error.message, error.where ? h("span.muted", {}, ` (${error.where})`) : null).hidden = false;
      button.disabled = false;
    }
  }

  fill(page, h("nav.crumbs", {}, h("a", { href: "/workflows" }, "Workflows"), " / Start"), h("h1", {}, "Start a workflow"),
    h("form.card", { onsubmit: submit }, h("div.body.panel", {}, h("div.fields", {}, show(MAIN)), queues,
      h("details", {}, h("summary", {}, "More options"), h("div.fields", {}, show(MORE))), wrong,
      h("div.row", {}, button, h("a.button.plain", { href: "/workflows" }, "Not now")))));
  inputs.workflow_type.focus();
  const found = await get("/task-queues", {}, signal);
  fill(queues, found.task_queues.map((queue) => h("option", { value: queue.name })));
  if (!inputs.task_queue.value && found.task_queues.length === 1) inputs.task_queue.value = found.task_queues[0].name;
}

function body(fields, inputs) {
  const given = fields.map((field) => [field.name, valueOf(field, inputs[field.name])]).filter(([, value]) => value !== "");
  const simple = Object.fromEntries(given.filter(([name]) => !TEXTS.has(name)).map(([name, value]) => [name, NUMBERS.has(name) ? Number(value) : value]));
  const values = Object.fromEntries(given);
  const first = withText(simple, "args", values.args);
  return `${first.slice(0, -1)},"memo":${values.memo}}`;
}
