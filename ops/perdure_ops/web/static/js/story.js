// From events to what happened: activities, timers, children, signals and so on, each once, with its times. Pure.

const ENDS = {
  ActivityTaskCompleted: "completed", ActivityTaskFailed: "failed", ActivityTaskTimedOut: "timed_out", ActivityTaskCanceled: "canceled",
  TimerFired: "fired", TimerCanceled: "canceled",
  ChildWorkflowExecutionCompleted: "completed", ChildWorkflowExecutionFailed: "failed", ChildWorkflowExecutionCanceled: "canceled",
  ChildWorkflowExecutionTimedOut: "timed_out", ChildWorkflowExecutionTerminated: "canceled", StartChildWorkflowExecutionFailed: "failed",
  WorkflowExecutionUpdateCompleted: "completed",
};
const BEGINS = {
  ActivityTaskScheduled: (a) => ["Activity", a.options?.activity_type, a.options?.activity_id],
  TimerStarted: (a) => ["Timer", a.timer_id, ""],
  StartChildWorkflowExecutionInitiated: (a) => ["Child", a.options?.workflow_type, a.options?.workflow_id],
  WorkflowExecutionUpdateAccepted: (a) => ["Update", a.request?.name, a.request?.update_id],
};
const POINTS = {
  WorkflowExecutionSignaled: (a) => ["Signal", a.signal_name],
  WorkflowExecutionCancelRequested: () => ["Cancel requested", ""],
  WorkflowExecutionPaused: (a) => ["Paused", a.reason],
  WorkflowExecutionUnpaused: (a) => ["Unpaused", a.reason],
  MarkerRecorded: (a) => ["Marker", a.marker_name],
  SignalExternalWorkflowExecutionInitiated: (a) => ["Signal to", a.workflow_id],
  RequestCancelExternalWorkflowExecutionInitiated: (a) => ["Cancel sent to", a.workflow_id],
  RecordEmitted: (a) => ["Emitted to", a.topic],
  WorkflowTaskFailed: (a) => ["Workflow task failed", a.cause],
  WorkflowTaskTimedOut: () => ["Workflow task timed out", ""],
};
const CLOSES = {
  WorkflowExecutionCompleted: "completed", WorkflowExecutionFailed: "failed", WorkflowExecutionTimedOut: "timed_out",
  WorkflowExecutionCanceled: "canceled", WorkflowExecutionTerminated: "canceled", WorkflowExecutionContinuedAsNew: "completed",
};

/**
 * The parts of a run, in the order in which they began. Each has kind, name, id, state, start, end (dates; null: open),
 * events, and maybe failure.
 */
export function parts(events) {
  const found = [];
  const open = new Map();
  for (const event of events) {
    const { event_type: type, attributes: a } = event;
    const time = new Date(event.event_time);
    if (BEGINS[type]) {
      const [kind, name, id] = BEGINS[type](a);
      const part = { kind, name: name ?? "", id: id ?? "", state: "running", start: time, end: null, events: [event] };
      if (kind === "Timer") part.note = a.start_to_fire_timeout_ms;
      found.push(part);
      open.set(event.event_id, part);
    } else if (ENDS[type] || a.scheduled_event_id || a.initiated_event_id) {
      const begun = open.get(a.scheduled_event_id ?? a.initiated_event_id ?? a.started_event_id ?? a.accepted_event_id);
      if (begun) end(begun, event, time, ENDS[type]);
      else point(found, event, time);
    } else {
      point(found, event, time);
    }
  }
  return found;
}

function end(part, event, time, state) {
  part.events.push(event);
  if (event.attributes.failure) part.failure = event.attributes.failure;
  if (!state) return;
  part.end = time;
  part.state = state === "completed" && event.event_type.includes("Update") && part.failure ? "failed" : state;
}

function point(found, event, time) {
  const make = POINTS[event.event_type];
  if (!make) return;
  const [kind, name] = make(event.attributes);
  const state = event.event_type.includes("Failed") || event.event_type.includes("TimedOut") ? "failed" : "point";
  found.push({ kind, name: name ?? "", id: "", state, start: time, end: time, isPoint: true, events: [event], failure: event.attributes.failure });
}

/** The state of an event for its dot: how the run closed, how a part ended, or nothing special. */
export function stateOf(event) {
  return CLOSES[event.event_type] ?? ENDS[event.event_type] ?? (POINTS[event.event_type] ? "point" : "");
}

export const closing = (events) => events.find((event) => CLOSES[event.event_type]);
