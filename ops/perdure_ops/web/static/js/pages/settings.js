// Settings of this browser: the codec server, and the token.

import { token } from "../api.js";
import { settings as codec } from "../codec.js";
import { fill, h, toast } from "../dom.js";

export async function settings({ page, about }) {
  document.title = "Settings · Perdure";
  const endpoint = h("input", { type: "url", value: codec.endpoint(), placeholder: "https://codec.example.com", name: "endpoint", autocomplete: "off" });
  const authorization = h("input", { type: "password", value: codec.authorization(), name: "authorization", autocomplete: "off" });
  const save = (event) => {
    event.preventDefault();
    codec.save(endpoint.value.trim(), authorization.value.trim());
    toast(endpoint.value.trim() ? "Payloads are decoded by the codec server from now on" : "Payloads are shown as they are");
  };
  fill(page, h("h1", {}, "Settings"),
    h("form.card", { onsubmit: save }, h("header", {}, h("h2", {}, "Codec server")), h("div.body.panel", {},
      h("p.muted", {}, "Encrypted payloads are decoded by a codec server that this browser asks itself: POST …/decode, with the header X-Namespace. It must allow this page's origin (CORS), and use https unless it is on this machine."),
      h("label.field", {}, h("span", {}, "Address"), endpoint, h("small", {}, "Kept in this browser. Empty: payloads are shown as they are.")),
      h("label.field", {}, h("span", {}, "Authorization header"), authorization, h("small", {}, "Sent to the codec server only, kept in this tab only.")),
      h("div.row", {}, h("button.button.main", {}, "Save")))),
    h("section.card", {}, h("header", {}, h("h2", {}, "This server")), h("div.body.panel", {},
      h("dl.facts", {}, fact("Version", about.version), fact("Namespace", about.namespace), fact("Partitions", about.partitions),
        fact("HTTP API", h("a", { href: "/api/v1/openapi.json" }, "OpenAPI document")), fact("Health and metrics", h("a", { href: "/health", target: "_blank" }, "/health"))),
      token.get() ? h("div.row", {}, h("button.button", { onclick: () => { token.set(""); location.reload(); } }, "Forget the token")) : null)));
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
