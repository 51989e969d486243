// How times, durations, numbers and values are shown.

import { h } from "./dom.js";

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

/** A point in time: how long ago, with the exact time as its title. */
export function moment(text) {
  if (!text) return "";
  const date = new Date(text);
  return h("time", { datetime: text, title: exact(date) }, ago(date));
}

export function exact(date) {
  const pad = (number, digits = 2) => String(number).padStart(digits, "0");
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${clock(date)}`;
}

export function clock(date) {
  const pad = (number, digits = 2) => String(number).padStart(digits, "0");
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

function ago(date) {
  const seconds = (date - Date.now()) / 1000;
  for (const [unit, size] of UNITS) {
    if (Math.abs(seconds) >= size || unit === "second") return relative.format(Math.round(seconds / size), unit);
  }
  return "";
}

/** A duration in milliseconds: 850 ms, 3.2 s, 4 m 10 s, 2 h 5 m, 3 d 4 h. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const parts = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const at = parts.findIndex(([, size]) => s >= size);
  const whole = Math.floor(s / parts[at][1]);
  const rest = Math.floor((s % parts[at][1]) / parts[at + 1][1]);
  return `${whole} ${parts[at][0]}${rest ? ` ${rest} ${parts[at + 1][0]}` : ""}`;
}

export const between = (from, to) => duration((to ? new Date(to) : new Date()) - new Date(from));
export const number = (value) => new Intl.NumberFormat("en").format(value);
export const bytes = (size) => (size < 10_000 ? `${number(size)} B` : size < 10_000_000 ? `${Math.round(size / 1024)} KiB` : `${Math.round(size / 1048576)} MiB`);

const STATUS = { TIMED_OUT: "Timed out", CONTINUED_AS_NEW: "Continued as new" };
export const statusName = (status) => STATUS[status] ?? status.charAt(0) + status.slice(1).toLowerCase().replaceAll("_", " ");

/** A status as a chip. */
export function chip(status, text = statusName(status)) {
  return h("span.chip", { class: status.toLowerCase().replaceAll(" ", "-") }, text);
}

/** The status of a run, and what holds it up. */
export function runChips(run) {
  return [
    chip(run.status),
    run.paused ? chip("PAUSED") : null,
    run.stuck_reason ? h("span.chip.failed", { title: run.stuck_reason }, "Stuck") : null,
    run.quarantine_reason ? h("span.chip.failed", { title: run.quarantine_reason }, "Quarantined") : null,
  ];
}

const JSON_TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** A value as coloured JSON. */
export function code(value) {
  const text = typeof value === "string" && value.includes("\n") ? value : JSON.stringify(value, null, 2) ?? "null";
  const pre = h("pre.code", { tabindex: "0" });
  let last = 0;
  for (const match of text.matchAll(JSON_TOKEN)) {
    if (match[0] === "") continue;
    pre.append(text.slice(last, match.index));
    const kind = match[2] !== undefined ? "key" : match[1] !== undefined ? "string" : "literal";
    pre.append(h(`span.${kind}`, {}, match[1] ?? match[0]), match[2] ?? "");
    last = match.index + match[0].length;
  }
  pre.append(text.slice(last));
  return pre;
}

/** Text as it is, for stacks and messages. */
export const plain = (text) => h("pre.code", { tabindex: "0" }, text);

/** A failure and its causes. */
export function failure(found) {
  if (!found) return null;
  const kind = found.type || found.kind || "";
  return h("div.failure", {},
    h("div", {}, h("strong", {}, kind ? `${kind}: ` : "", found.message || "(no message)")),
    found.details?.length ? code(found.details.length === 1 ? found.details[0] : found.details) : null,
    found.stack_trace ? h("details", {}, h("summary.small.muted", {}, "Stack trace"), plain(found.stack_trace)) : null,
    found.cause ? h("div", {}, h("span.small.muted", {}, "caused by"), failure(found.cause)) : null);
}
