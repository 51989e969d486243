// What a user can do to a run and to its activities.

import { post, remove, withText, workflow } from "./api.js";
import { go } from "./app.js";
import { ask } from "./dialogs.js";
import { h, toast } from "./dom.js";

const REASON = { name: "reason", label: "Why", hint: "Stands in the history." };
const NAME = (label) => ({ name: "name", label, required: true });
const ARGS = { name: "args", label: "Arguments", kind: "json", hint: "A JSON list; empty for none.", list_only: true };

/** Do something, and say that it was done, or why not. */
export async function attempt(work, done) {
  try {
    const answer = await work();
    toast(done);
    return answer;
  } catch (error) {
    toast(error.message, true);
    return null;
  }
}

/** The buttons of a run. */
export function runActions(run) {
  const at = (rest) => workflow(run.workflow_id, rest);
  const named = { run_id: run.run_id };
  const simple = (verb, question, done) => async () => {
    const given = await ask({ fields: [REASON], ...question });
    if (given) await attempt(() => post(at(`/${verb}`), { ...named, ...given }), done);
  };
  const signal = async () => {
    const given = await ask({ title: "Send a signal", action: "Send", fields: [NAME("Signal"), ARGS] });
    if (given) await attempt(() => post(at("/signal"), withText({ ...named, signal: given.name }, "args", given.args)), `Signal ${given.name} sent`);
  };
  const update = async () => {
    const given = await ask({ title: "Send an update", action: "Send", text: "Waits for the workflow's answer.", fields: [NAME("Update"), ARGS] });
    if (!given) return;
    const answer = await attempt(() => post(at("/update"), withText({ ...named, update: given.name }, "args", given.args)), `Update ${given.name} answered`);
    if (answer?.failure) toast(`The update failed: ${answer.failure.message}`, true);
    else if (answer) toast(`Result: ${JSON.stringify(answer.result)}`);
  };
  const cancel = simple("cancel", { title: "Cancel this workflow?", text: "Its code is asked to stop, and decides how.", action: "Cancel the workflow" }, "Cancellation requested");
  const terminate = simple("terminate", { title: "Terminate this workflow?", text: "It is closed at once; its code is not asked. Cancel is kinder.", action: "Terminate", danger: true }, "Terminated");
  const pause = simple("pause", { title: "Pause this workflow?", text: "No task of it is handed out until it is unpaused. Timers go on.", action: "Pause" }, "Paused");
  const unpause = simple("unpause", { title: "Let it go on?", action: "Unpause" }, "Unpaused");
  const release = async () => {
    if (await ask({ title: "Lift the quarantine?", text: "Do so once the cause is repaired.", action: "Release" })) await attempt(() => post(at("/release"), named), "Released");
  };
  const reset = async () => {
    const given = await ask({ title: "Reset this workflow", action: "Reset", text: "A new run begins with the history up to a workflow task and decides it anew. An open run is terminated.",
      fields: [{ name: "point", label: "From", kind: "select", options: [["LastWorkflowTask", "the last workflow task"], ["FirstWorkflowTask", "the first workflow task"]] }, REASON] });
    if (!given) return;
    const started = await attempt(() => post(at("/reset"), { ...named, ...given }), "Reset: this is the new run");
    if (started) go(`/workflows/${encodeURIComponent(started.workflow_id)}/${started.run_id}`);
  };
  const erase = async () => {
    const given = await ask({ title: "Delete this run?", text: "It goes with its history; an open one is terminated first.", action: "Delete", danger: true, fields: [REASON] });
    if (given && (await attempt(() => remove(at(""), { ...named, ...given }), "Deleted"))) go("/workflows");
  };
  const isOpen = run.status === "RUNNING";
  return h("div.row", {},
    isOpen ? h("button.button", { onclick: signal }, "Signal") : null,
    isOpen ? h("button.button", { onclick: run.paused ? unpause : pause }, run.paused ? "Unpause" : "Pause") : null,
    isOpen ? h("button.button", { onclick: cancel }, "Cancel") : null,
    h("details.menu", {}, h("summary.button", { "aria-label": "More actions" }, "More ▾"), h("div", {},
      isOpen ? h("button", { onclick: update }, "Send an update …") : null,
      run.quarantine_reason ? h("button", { onclick: release }, "Lift the quarantine …") : null,
      h("button", { onclick: reset }, "Reset …"),
      isOpen ? h("button", { onclick: terminate }, "Terminate …") : null,
      h("button", { onclick: erase }, "Delete …"))));
}

/** The buttons of a pending activity. */
export function activityActions(run, activity) {
  const which = { workflow_id: run.workflow_id, run_id: run.run_id, activity_id: activity.activity_id };
  const send = (verb, body, done) => attempt(() => post(`/activities/${verb}`, { ...which, ...body }), done);
  const pause = async () => {
    const given = await ask({ title: `Pause ${activity.activity_type}?`, text: "No attempt of it begins until it is unpaused.", action: "Pause", fields: [REASON] });
    if (given) await send("pause", given, "Activity paused");
  };
  const unpause = () => send("unpause", {}, "Activity unpaused");
  const reset = () => send("reset", {}, "Its attempts count from 1 again");
  const options = async () => {
    const given = await ask({ title: `Options of ${activity.activity_type}`, action: "Change", text: "What stays empty is not changed.", fields: [
      { name: "retry_maximum_attempts", label: "Attempts at most", kind: "number", hint: "0: no limit." },
      { name: "retry_initial_interval_ms", label: "First retry after (ms)", kind: "number" },
      { name: "start_to_close_timeout_ms", label: "Time for one attempt (ms)", kind: "number" },
      { name: "task_queue", label: "Task queue" }] });
    if (!given) return;
    const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== "")
      .map(([name, value]) => [name, name === "task_queue" ? value : Number(value)]));
    await send("update-options", body, "Options changed");
  };
  return h("div.row", {},
    h("button.button.small", { onclick: activity.paused ? unpause : pause }, activity.paused ? "Unpause" : "Pause"),
    h("button.button.small", { onclick: reset, title: "Begin again with attempt 1, at once if none runs" }, "Reset"),
    h("button.button.small", { onclick: options }, "Options"));
}
