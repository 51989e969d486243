// The timeline of a run: a lane for each part, from its start to its end. Bars carry their words, for those who hear.

import { h } from "./dom.js";
import { between, clock, duration } from "./format.js";

const LANES_MAX = 200;

/**
 * @param {Array} parts of the run
 * @param {Object} run its description
 */
export function timeline(parts, run) {
  const retrying = new Set(run.pending_activities.filter((activity) => activity.attempt > 1).map((activity) => activity.activity_id));
  const start = new Date(run.start_time);
  const ends = parts.map((part) => part.end ?? new Date());
  const end = run.close_time ? new Date(run.close_time) : new Date(Math.max(Date.now(), ...ends));
  const span = Math.max(1, end - start);
  const whole = { kind: "Workflow", name: run.workflow_type, state: stateOf(run), start, end: run.close_time ? end : null };
  const shown = [whole, ...parts.slice(0, LANES_MAX)];
  const lanes = shown.map((part) => lane(part, start, span, retrying));
  return h("div.timeline", {},
    h("div.axis", {}, h("span", {}), h("div.ticks", {}, [0, 0.25, 0.5, 0.75, 1].map((at) =>
      h("span", { class: at % 0.5 ? "wide-only" : "" }, at ? `+${duration(span * at)}` : clock(start))))),
    lanes,
    parts.length > LANES_MAX ? h("p.muted.small", {}, `${parts.length - LANES_MAX} more are in the history.`) : null);
}

function stateOf(run) {
  return { RUNNING: "running", COMPLETED: "completed", FAILED: "failed", TIMED_OUT: "timed_out" }[run.status] ?? "canceled";
}

function lane(part, start, span, retrying) {
  const state = part.state === "running" && part.kind === "Activity" && retrying.has(part.id) ? "retrying" : part.state;
  const words = part.isPoint ? `${part.kind} at ${clock(part.start)}`
    : `${part.kind} ${part.name}: ${state.replace("_", " ")}, ${between(part.start, part.end)}${part.end ? "" : " so far"}`;
  const bar = h(`div.bar.${state}`, { title: words });
  const left = Math.min(100, Math.max(0, ((part.start - start) / span) * 100));
  bar.style.left = `${part.isPoint ? Math.min(left, 99) : left}%`;
  if (part.isPoint) bar.classList.add("point");
  else bar.style.width = `${Math.max(0, (((part.end ?? new Date()) - part.start) / span) * 100)}%`;
  return h("div.lane", {},
    h("div.label", { title: part.id || part.name }, h("span.muted", {}, `${part.kind} `), part.name),
    h("div.track", { role: "img", "aria-label": words }, bar));
}
