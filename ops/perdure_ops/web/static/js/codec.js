// Encrypted payloads: decoded by a codec server that the browser asks itself, so this server never sees what is in them.

import { toast } from "./dom.js";

const ENDPOINT = "perdure.codec";
const AUTHORIZATION = "perdure.codec.authorization";
const known = new Map();
let complained = false;

export const settings = {
  endpoint: () => localStorage.getItem(ENDPOINT) ?? "",
  authorization: () => sessionStorage.getItem(AUTHORIZATION) ?? "",
  save(endpoint, authorization) {
    localStorage.setItem(ENDPOINT, endpoint.replace(/\/+$/, ""));
    sessionStorage.setItem(AUTHORIZATION, authorization);
    known.clear();
    complained = false;
  },
};

const isPayload = (value) =>
  value !== null && typeof value === "object" && typeof value.data === "string" && typeof value.metadata?.encoding === "string";

const text = (base64) => new TextDecoder().decode(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)));

/** Everything in `value` that is an encoded payload, decoded where there is a codec server; the rest as it is. */
export async function decoded(value, namespace) {
  if (!settings.endpoint()) return replaced(value);
  const found = new Map();
  collect(value, found);
  const missing = [...found].filter(([key]) => !known.has(key));
  if (missing.length) {
    try {
      const answers = await ask(missing.map(([, payload]) => payload), namespace);
      missing.forEach(([key], index) => known.set(key, answers[index]));
    } catch (error) {
      if (!complained) toast(`The codec server ${settings.endpoint()} did not decode: ${error.message}. See Settings.`, true);
      complained = true;
    }
  }
  return replaced(value);
}

async function ask(payloads, namespace) {
  const headers = { "Content-Type": "application/json", "X-Namespace": namespace };
  if (settings.authorization()) headers.Authorization = settings.authorization();
  const answer = await fetch(`${settings.endpoint()}/decode`, { method: "POST", headers, body: JSON.stringify({ payloads }) });
  if (!answer.ok) throw new Error(`it answered ${answer.status}`);
  const { payloads: found } = await answer.json();
  if (!Array.isArray(found) || found.length !== payloads.length) throw new Error("it answered with something else");
  return found;
}

function collect(value, found) {
  if (isPayload(value)) found.set(JSON.stringify(value), value);
  else if (value !== null && typeof value === "object") Object.values(value).forEach((part) => collect(part, found));
}

function replaced(value) {
  if (isPayload(value)) return shown(known.get(JSON.stringify(value)) ?? value);
  if (Array.isArray(value)) return value.map(replaced);
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, replaced(part)]));
  }
  return value;
}

/** A payload as people read it: JSON by its value, anything else by its encoding and its size. */
function shown(payload) {
  try {
    const encoding = text(payload.metadata.encoding);
    if (encoding === "binary/null") return null;
    if (encoding.startsWith("json/")) return JSON.parse(text(payload.data));
    return `[${encoding}, ${Math.floor((payload.data.replace(/=+$/, "").length * 3) / 4)} bytes]`;
  } catch {
    return payload;
  }
}
