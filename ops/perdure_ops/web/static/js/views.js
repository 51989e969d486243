// Filters that the user keeps, in this browser.

const KEY = "perdure.views";

export const builtin = [
  { name: "Running", query: "ExecutionStatus = 'Running'" },
  { name: "Failed or timed out", query: "ExecutionStatus IN ('Failed', 'TimedOut')" },
  { name: "Stuck", query: "Stuck = true" },
  { name: "Paused", query: "Paused = true" },
];

export function saved() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((view) => typeof view.name === "string" && typeof view.query === "string") : [];
  } catch {
    return [];
  }
}

export function save(name, query) {
  localStorage.setItem(KEY, JSON.stringify([...saved().filter((view) => view.name !== name), { name, query }]));
}

export function forget(name) {
  localStorage.setItem(KEY, JSON.stringify(saved().filter((view) => view.name !== name)));
}
