// The tabs of a run that ask for more when they are opened: children, queries, the stack.

import { get, post, withText, workflow } from "../api.js";
import { input, labelled, valueOf } from "../dialogs.js";
import { fill, h } from "../dom.js";
import { between, code, plain, runChips } from "../format.js";

const DEPTH_MAX = 6;
const CHILDREN_MAX = 200;

const quoted = (text) => `'${text.replaceAll("'", "''")}'`;

/** The run, its children, theirs, and so on. */
export async function tree(panel, { run, signal }) {
  const card = (content) => fill(panel, h("section.card", { "aria-label": "Children" }, h("header", {}, h("h2", {}, "Children")), h("div.body.tree", {}, content)));
  card(h("p.muted", {}, "Loading …"));
  try {
    const nodes = await branch(run, 0, signal);
    if (!panel.isConnected || document.querySelector("#tab-tree[aria-selected='true']") === null) return;
    card([nodes.length ? h("ul", {}, item(run, nodes)) : h("div.empty", {}, h("h2", {}, "No children"), h("p", {}, "This run has started no other workflows.")),
      run.parent ? h("p.small", {}, "Its parent is ", h("a", { href: `/workflows/${encodeURIComponent(run.parent.workflow_id)}/${run.parent.run_id}` }, run.parent.workflow_id), ".") : null]);
  } catch (error) {
    if (error.name !== "AbortError") card(h("p.wrong", { role: "alert" }, error.message));
  }
}

async function branch(run, depth, signal) {
  const query = `ParentWorkflowId = ${quoted(run.workflow_id)} AND ParentRunId = ${quoted(run.run_id)} ORDER BY StartTime ASC`;
  const found = await get("/workflows", { query, page_size: CHILDREN_MAX }, signal);
  return Promise.all(found.runs.map(async (child) => item(child, depth < DEPTH_MAX ? await branch(child, depth + 1, signal) : [])));
}

function item(run, nodes) {
  return h("li", {}, h("div.node", {}, runChips(run),
    h("a.break", { href: `/workflows/${encodeURIComponent(run.workflow_id)}/${run.run_id}` }, run.workflow_id),
    h("span.muted.small", {}, run.workflow_type), h("span.muted.small", {}, between(run.start_time, run.close_time))),
  nodes.length ? h("ul", {}, nodes) : null);
}

/** Ask the workflow's code. */
export function queries(panel, { run }) {
  const fields = [
    { name: "query", label: "Query", required: true, placeholder: "status" },
    { name: "args", label: "Arguments", kind: "json", hint: "A JSON list; empty for none.", list_only: true },
  ];
  const inputs = fields.map((field) => input(field));
  const answer = h("div", { "aria-live": "polite" });
  const button = h("button.button.main", {}, "Ask");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const [query, args] = fields.map((field, index) => valueOf(field, inputs[index]));
      const found = await post(workflow(run.workflow_id, "/query"), withText({ query, run_id: run.run_id }, "args", args));
      fill(answer, h("h3", {}, "Answer"), code(found.result));
    } catch (error) {
      fill(answer, h("p.wrong", { role: "alert" }, error.message));
    }
    button.disabled = false;
  };
  fill(panel, h("section.card", { "aria-label": "Queries" }, h("header", {}, h("h2", {}, "Ask the workflow's code")),
    h("form.body.panel", { onsubmit: submit }, fields.map((field, index) => labelled(field, inputs[index])), h("div.row", {}, button,
      h("span.muted.small", {}, "A worker of the task queue answers, also for closed runs.")), answer)));
}

/** Where the workflow's code waits. */
export async function stack(panel, { run, signal }) {
  const body = h("div.body", { "aria-live": "polite" }, h("p.muted", {}, "Asking a worker …"));
  const load = async () => {
    try {
      const found = await get(workflow(run.workflow_id, "/stack-trace"), { run_id: run.run_id }, signal);
      fill(body, found.stack_trace ? plain(found.stack_trace) : h("p.muted", {}, "No task of the workflow's code waits."));
    } catch (error) {
      if (error.name !== "AbortError") fill(body, h("p.wrong", { role: "alert" }, error.message));
    }
  };
  fill(panel, h("section.card", { "aria-label": "Stack" }, h("header", {}, h("h2", {}, "Where its code waits"), h("button.button.small", { onclick: load }, "Again")), body));
  await load();
}
