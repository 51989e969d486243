// Deployments of workers: which versions there are, and which of them gets new work.

import { get, post } from "../api.js";
import { ask } from "../dialogs.js";
import { fill, h, redraw, toast } from "../dom.js";
import { chip, moment, number } from "../format.js";
import { every, gently } from "../live.js";

const REFRESH_MS = 5000;

export async function deployments({ page, signal }) {
  document.title = "Deployments · Perdure";
  const list = h("div.panel");
  const load = async () => {
    const found = await get("/deployments", {}, signal);
    redraw(list, () => fill(list, found.deployments.length ? found.deployments.map((deployment) => card(deployment, reload)) : empty()));
  };
  const reload = gently(load, 500, signal, (error) => toast(error.message, true));
  fill(page, h("h1", {}, "Deployments"), list);
  await load();
  every(REFRESH_MS, signal, reload);
}

function card(deployment, reload) {
  const act = async (path, body, done) => {
    try {
      await post(`/deployments/${encodeURIComponent(deployment.name)}/${path}`, body);
      toast(done);
      reload();
    } catch (error) {
      toast(error.message, true);
    }
  };
  const current = async (version) => {
    if (await ask({ title: `Lead new work to ${version.build_id}?`, text: "New runs, and the next task of auto-upgrade runs, go to it. Pinned runs stay.", action: "Make it current" })) {
      await act("current", { build_id: version.build_id }, `${version.build_id} is current`);
    }
  };
  const ramp = async (version) => {
    const given = await ask({ title: `Try ${version.build_id} out`, action: "Ramp", fields: [{ name: "percentage", label: "Percent of workflows", kind: "number", value: "5", required: true }] });
    if (given) await act("ramping", { build_id: version.build_id, percentage: Number(given.percentage) }, `${version.build_id} gets ${given.percentage} %`);
  };
  return h("section.card", { "aria-label": deployment.name }, h("header", {}, h("h2", {}, deployment.name),
    h("span.muted.small", {}, deployment.changed_time ? ["changed ", moment(deployment.changed_time), ` by ${deployment.changed_by}`] : "never led anywhere")),
  h("table.stack", {}, h("thead", {}, h("tr", {}, ["Build id", "Status", "Pinned runs", "Task queues", ""].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, deployment.versions.map((version) => h("tr", {},
      h("td.mono", {}, version.build_id),
      h("td", {}, chip(version.status), version.status === "RAMPING" ? ` ${deployment.ramping_percentage} %` : null),
      h("td", { "data-label": "Pinned runs" }, number(version.open_pinned_runs)), h("td", { "data-label": "Task queues" }, version.task_queues.join(", ")),
      h("td", {}, version.status === "CURRENT" ? null : h("div.row", {}, h("button.button.small", { onclick: () => current(version) }, "Make current"),
        h("button.button.small", { onclick: () => ramp(version) }, "Ramp"))))))));
}

function empty() {
  return h("div.card.empty", {}, h("h2", {}, "No worker has a version"),
    h("p", {}, "Give workers a deployment_config, and their versions appear here: what is current, ramping, draining."));
}
