// The frame: the bar at the top, and which page belongs to which address.

import { get, Problem, token } from "./api.js";
import { fill, h } from "./dom.js";
import { deployments } from "./pages/deployments.js";
import { partitions } from "./pages/partitions.js";
import { run } from "./pages/run.js";
import { schedule } from "./pages/schedule.js";
import { scheduleForm } from "./pages/schedule_form.js";
import { schedules } from "./pages/schedules.js";
import { settings } from "./pages/settings.js";
import { start } from "./pages/start.js";
import { taskQueues } from "./pages/task_queues.js";
import { workflows } from "./pages/workflows.js";

const PAGES = [
  [/^\/(?:workflows\/?)?$/, workflows],
  [/^\/workflows\/([^/]+)(?:\/([^/]+))?$/, run],
  [/^\/start$/, start],
  [/^\/schedules$/, schedules],
  [/^\/new-schedule$/, scheduleForm],
  [/^\/change-schedule\/([^/]+)$/, scheduleForm],
  [/^\/schedules\/([^/]+)$/, schedule],
  [/^\/task-queues$/, taskQueues],
  [/^\/deployments$/, deployments],
  [/^\/cluster$/, partitions],
  [/^\/settings$/, settings],
];
const NAV = [["/workflows", "Workflows"], ["/schedules", "Schedules"], ["/task-queues", "Task queues"], ["/deployments", "Deployments"], ["/cluster", "Partitions"]];

const page = document.getElementById("page");
let leaving = new AbortController();
let about = { namespace: "" };

/** Go to an address of this site. */
export function go(address, replace = false) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  if (!replace) window.scrollTo(0, 0);
  show();
}

/** Say whether what is shown follows the server. */
export function live(state) {
  const shown = document.getElementById("live");
  if (!shown) return;
  shown.className = `live ${state === "on" ? "on" : state === "off" ? "off" : ""}`;
  shown.textContent = { on: "live", off: "reconnecting", ended: "closed" }[state] ?? "";
  shown.hidden = !shown.textContent;
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  live("");
  frame();
  const found = PAGES.map(([pattern, make]) => [location.pathname.match(pattern), make]).find(([match]) => match);
  try {
    if (!about.version) about = await get("/about", {}, signal);
    frame();
    if (!found) return lost();
    document.title = "Perdure";
    await found[1]({ page, signal, about, query: new URLSearchParams(location.search) }, ...found[0].slice(1).map(decode));
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    failed(error);
  }
}

const decode = (part) => (part === undefined ? undefined : decodeURIComponent(part));

function frame() {
  const current = location.pathname === "/" ? "/workflows" : location.pathname;
  fill(document.getElementById("top"), h("div.top-in", {},
    h("a.brand", { href: "/workflows" }, h("img", { src: "/static/icon.svg", alt: "" }), "Perdure"),
    h("nav.nav", { "aria-label": "Pages" }, NAV.map(([address, name]) =>
      h("a", { href: address, "aria-current": current.startsWith(address) ? "page" : null }, name))),
    h("div.where", {},
      h("span.live", { id: "live", hidden: true }),
      about.namespace ? h("span", { title: "Namespace" }, about.namespace) : null,
      h("a.button.small", { href: "/settings" }, "Settings"))));
}

function lost() {
  fill(page, h("div.card.empty", {}, h("h2", {}, "There is no such page"),
    h("p", {}, `Nothing is at ${location.pathname}.`), h("a.button", { href: "/workflows" }, "All workflows")));
}

function failed(error) {
  if (error instanceof Problem && error.status === 401) return askToken();
  fill(page, h("div.card.empty", { role: "alert" }, h("h2", {}, error.status === 404 ? "This is not here" : "This did not work"),
    h("p.break", {}, error.message),
    h("div.row", {}, h("button.button.main", { onclick: show }, "Try again"), h("a.button", { href: "/workflows" }, "All workflows"))));
  if (!(error instanceof Problem)) console.error(error);
}

function askToken() {
  const field = h("input", { type: "password", autocomplete: "off", required: true, "aria-label": "Token", id: "token" });
  const form = h("form.card.empty", {
    onsubmit: (event) => {
      event.preventDefault();
      token.set(field.value.trim());
      show();
    },
  }, h("h2", {}, "This server needs its token"),
  h("p", {}, "It is what the server was started with, as PERDURE_API_TOKEN. It is kept in this tab only."),
  token.get() ? h("p.wrong", {}, "The token that was given is not the right one.") : null,
  field, h("button.button.main", {}, "Continue"));
  fill(page, form);
  field.focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.target) return;
  if (link.getAttribute("href").startsWith("/api/") || link.hasAttribute("download")) return;
  event.preventDefault();
  go(link.getAttribute("href"));
  if (!page.contains(document.activeElement)) page.focus({ preventScroll: true }); // a form has chosen its first field
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "")) {
    const filter = document.getElementById("filter");
    if (filter) {
      event.preventDefault();
      filter.focus();
    }
  }
});
window.addEventListener("popstate", show);
show();
