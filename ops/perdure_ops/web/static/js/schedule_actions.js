// What a user can do to a schedule.

import { attempt } from "./actions.js";
import { post, remove, schedule } from "./api.js";
import { go } from "./app.js";
import { ask } from "./dialogs.js";
import { h } from "./dom.js";

const DAY_MS = 86_400_000;
const NOTE = { name: "note", label: "Why", hint: "Kept as its note." };
const OVERLAP = { name: "overlap", label: "While a workflow of it runs", kind: "select", options: [
  ["", "as the schedule says"], ["SKIP", "skip the fire"], ["BUFFER_ONE", "let one fire wait"], ["BUFFER_ALL", "let all fires wait"],
  ["CANCEL_OTHER", "cancel the running one"], ["TERMINATE_OTHER", "terminate the running one"], ["ALLOW_ALL", "run both"]] };

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
const written = (ms) => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** The buttons of a schedule. */
export function scheduleActions(found) {
  const at = (verb) => schedule(found.schedule_id, verb);
  const pause = async () => {
    const answer = await ask({ title: "Pause this schedule?", text: "It fires by hand only. Times that pass meanwhile are not made up for; backfill does that.", action: "Pause", fields: [NOTE] });
    if (answer) await attempt(() => post(at("/pause"), given(answer)), "Paused");
  };
  const unpause = async () => {
    const answer = await ask({ title: "Let it fire again?", action: "Unpause", fields: [NOTE] });
    if (answer) await attempt(() => post(at("/unpause"), given(answer)), "Unpaused");
  };
  const trigger = async () => {
    const answer = await ask({ title: "Fire now?", text: "Also while it is paused.", action: "Trigger", fields: [OVERLAP] });
    if (answer) await attempt(() => post(at("/trigger"), given(answer)), "Triggered");
  };
  const backfill = async () => {
    const now_ms = Date.now();
    const answer = await ask({ title: "Fire for times that have passed?", text: "For every time of its spec in this range, both ends included, as if they were now.", action: "Backfill", fields: [
      { name: "start_at", label: "From", kind: "moment", value: written(now_ms - DAY_MS), required: true, hint: "Like 2026-01-31T06:00:00Z." },
      { name: "end_at", label: "To", kind: "moment", value: written(now_ms), required: true }, OVERLAP] });
    if (answer) await attempt(() => post(at("/backfill"), { ranges: [given(answer)] }), "Backfilled");
  };
  const erase = async () => {
    const answer = await ask({ title: "Delete this schedule?", text: "It fires no more. Workflows that it has started go on.", action: "Delete", danger: true });
    if (answer && (await attempt(() => remove(at("")), "Deleted"))) go("/schedules");
  };
  return h("div.row", {},
    h("button.button", { onclick: trigger }, "Trigger"),
    h("button.button", { onclick: found.paused ? unpause : pause }, found.paused ? "Unpause" : "Pause"),
    h("button.button", { onclick: backfill }, "Backfill"),
    h("a.button", { href: `/change-schedule/${encodeURIComponent(found.schedule_id)}` }, "Change"),
    h("button.button.danger", { onclick: erase }, "Delete"));
}
