// The HTTP API: requests, problems, and streams of events. The token stays in this tab only.

const BASE = "/api/v1";
const TOKEN = "perdure.token";
const RECONNECT_MS = 2000;

/** A request that was not served: what was wrong, where, and what to do. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `the server answered ${status}`);
    this.status = status;
    this.code = document.code ?? "";
    this.where = document.where ?? "";
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

function headers(more = {}) {
  return token.get() ? { ...more, Authorization: `Bearer ${token.get()}` } : more;
}

async function ask(method, path, { query, body, signal } = {}) {
  const url = BASE + path + (query ? `?${new URLSearchParams(clean(query))}` : "");
  const options = { method, signal, headers: headers() };
  if (body !== undefined) {
    options.headers = headers({ "Content-Type": "application/json" });
    options.body = typeof body === "string" ? body : JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server does not answer. Is it still running? This page goes on when it is back." });
  }
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  return answer.json();
}

function clean(query) {
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
}

export const get = (path, query, signal) => ask("GET", path, { query, signal });
export const post = (path, body = {}) => ask("POST", path, { body });
export const remove = (path, query) => ask("DELETE", path, { query });

/** The path of a schedule: of its resource, and of its page. */
export const schedule = (id, rest = "") => `/schedules/${encodeURIComponent(id)}${rest}`;

/** The path of a workflow. */
export const workflow = (id, rest = "") => `/workflows/${encodeURIComponent(id)}${rest}`;

/**
 * Follow a stream of server-sent events, again and again until the signal stops it or it ends by itself.
 * @param {string} path
 * @param {() => Object} query asked for each connection, so that a stream goes on where it stopped
 * @param {(message: Object) => void} take takes each message
 * @param {AbortSignal} signal
 * @param {(state: "on"|"off"|"ended", problem?: Problem) => void} tell told how the stream is
 */
export async function follow(path, query, take, signal, tell = () => {}) {
  while (!signal.aborted) {
    try {
      const answer = await fetch(`${BASE}${path}?${new URLSearchParams(clean(query()))}`, { signal, headers: headers() });
      if (!answer.ok) {
        const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
        tell("off", problem);
        if (answer.status === 404 || answer.status === 401) return;
      } else {
        tell("on");
        if (await read(answer.body, take)) {
          tell("ended");
          return;
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    tell("off");
    await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS));
  }
}

/** Read a stream to its end; true if its last message was the last there will be. */
async function read(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let isLast = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return isLast;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
      if (!data || lines.some((line) => line.startsWith("event: "))) continue;
      const message = JSON.parse(data);
      isLast = message.closed === true && message.next_event_id === null;
      take(message);
    }
  }
}

/** A body with one field whose JSON text is sent as it was written, so that its numbers keep all digits. */
export function withText(body, name, text) {
  const rest = JSON.stringify(body).slice(0, -1);
  return `${rest}${rest === "{" ? "" : ","}${JSON.stringify(name)}:${text}}`;
}
