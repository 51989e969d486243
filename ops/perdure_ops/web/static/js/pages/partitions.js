// Partitions: who owns them, and how far behind each group is.

import { get } from "../api.js";
import { fill, h, toast } from "../dom.js";
import { chip, duration, moment, number } from "../format.js";
import { every, gently } from "../live.js";

const REFRESH_MS = 5000;

export async function partitions({ page, signal }) {
  document.title = "Partitions · Perdure";
  const list = h("div.panel");
  const load = async () => {
    const [owned, behind] = await Promise.all([get("/partitions", {}, signal), get("/lag", {}, signal)]);
    fill(list, sum(behind.lags), owners(owned.partitions));
  };
  fill(page, h("div.head", {}, h("h1", {}, "Partitions"), h("span.muted.small", {}, "every five seconds")), list);
  await load();
  every(REFRESH_MS, signal, gently(load, 500, signal, (error) => toast(error.message, true)));
}

function sum(lags) {
  const groups = Map.groupBy ? Map.groupBy(lags, (lag) => lag.group) : grouped(lags);
  return h("section.card", { "aria-label": "Lag" }, h("header", {}, h("h2", {}, "Lag of each group")),
    h("table.stack", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Group"), h("th", { scope: "col" }, "Reads"),
      ["Records", "Oldest waits for", "Partitions"].map((name) => h("th.number", { scope: "col" }, name)))),
    h("tbody", {}, [...groups].map(([group, rows]) => h("tr", {}, h("td.mono.break", {}, group), h("td.mono.break", { "data-label": "reads" }, rows[0].topic),
      h("td.number", { "data-label": "Records" }, number(rows.reduce((total, row) => total + (row.lag ?? 0), 0))),
      h("td.number", { "data-label": "Oldest waits for" }, duration(Math.max(...rows.map((row) => row.lag_s)) * 1000)),
      h("td.number", { "data-label": "Partitions" }, rows.length))))));
}

function grouped(lags) {
  const found = new Map();
  for (const lag of lags) found.set(lag.group, [...(found.get(lag.group) ?? []), lag]);
  return found;
}

function owners(rows) {
  return h("section.card", { "aria-label": "Owners" }, h("header", {}, h("h2", {}, "Owners")),
    h("table.stack", {}, h("thead", {}, h("tr", {}, ["Partition", "State", "Owner", "Since"].map((name) => h("th", { scope: "col" }, name)),
      ["Lag", "Oldest"].map((name) => h("th.number", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("td.nowrap", {}, `${row.role}/${row.partition}`), h("td", {}, chip(row.state, row.state)),
      h("td.break", { "data-label": "Owner" }, row.owner ?? "nobody"), h("td", { "data-label": "Since" }, row.since ? moment(row.since) : "–"),
      h("td.number", { "data-label": "Lag" }, row.lag === null ? "–" : number(row.lag)),
      h("td.number", { "data-label": "Oldest" }, duration(row.lag_s * 1000)))))));
}
