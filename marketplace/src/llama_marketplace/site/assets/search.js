/* llama marketplace site: search and filters over catalogue.js, in the page alone.
   What strangers wrote is put in as text and never as HTML; the page's policy allows nothing else. */
"use strict";

{
  const STEP = 50;
  const WITHDRAWN = 2; // from this status on a version is not to be had: yanked, quarantined
  const at = (id) => document.getElementById(id);
  const form = at("filters"), words = at("words"), count = at("count");
  const found = at("found"), more = at("more");
  const { publishers, licences, statuses } = CATALOGUE;

  const plugins = CATALOGUE.plugins.map(([
    name, version, summary, publisher, verified, licence, day, provides = [], platforms = [],
    devices = [], core = "", tried = "", failed = 0, status = 0, reason = "",
  ]) => ({
    name, version, summary, verified, day, provides, devices, core, tried, failed, status, reason,
    publisher: publishers[publisher],
    licence: licences[licence],
    kinds: new Set(provides.map((each) => each.slice(0, each.indexOf(":")))),
    platforms: platforms.map((each) => CATALOGUE.places[each]),
    text: [name, summary, publishers[publisher], ...provides].join(" ").toLowerCase(),
    short: name.replace(/^llama-plugin-/, ""),
  }));

  const FILTERS = {
    kind: (one, value) => one.kinds.has(value),
    platform: (one, value) => one.platforms.length === 0
      || one.platforms.includes(value) || one.platforms.includes(value.replace(/\/.*/, "/any")),
    device: (one, value) => (value === "none" ? one.devices.length === 0 : one.devices.includes(value)),
    licence: (one, value) => one.licence === value,
    status: (one, value) => statuses[one.status] === value,
    verified: (one) => one.verified,
  };

  function offer(id, values, unlike = {}) {
    for (const value of [...new Set(values)].filter(Boolean).sort()) {
      at(id).append(new Option(unlike[value] || value, value));
    }
  }
  offer("kind", plugins.flatMap((one) => [...one.kinds]));
  offer("platform", plugins.flatMap((one) => one.platforms).filter((each) => !each.endsWith("/any")));
  offer("device", ["none", ...plugins.flatMap((one) => one.devices)], { none: "none needed" });
  offer("licence", licences);
  offer("status", plugins.map((one) => statuses[one.status]));

  const newestFirst = [...plugins].sort((a, b) => (a.day < b.day) - (a.day > b.day));

  /* The better a name is met, the smaller; what is not to be had comes last. */
  function place(one, sought) {
    const after = one.status >= WITHDRAWN ? 4 : 0;
    if (!sought || one.short === sought) return after;
    return after + (one.short.startsWith(sought) ? 1 : one.short.includes(sought) ? 2 : 3);
  }

  function search(asked) {
    const sought = (asked.get("q") || "").toLowerCase();
    const parts = sought.split(/\s+/);
    const tests = Object.entries(FILTERS).filter(([key]) => asked.get(key))
      .map(([key, test]) => (one) => test(one, asked.get(key)));
    const newest = asked.get("sort") === "newest";
    const places = Array.from({ length: 8 }, () => []);
    for (const one of newest ? newestFirst : plugins) {
      if (!parts.every((part) => one.text.includes(part))) continue;
      if (tests.every((test) => test(one))) places[place(one, newest ? "" : sought)].push(one);
    }
    return places.flat();
  }

  function element(tag, text, of = "") {
    const made = document.createElement(tag);
    made.textContent = text;
    if (of) made.className = of;
    return made;
  }

  function badges(one) {
    const made = [];
    if (one.verified) made.push(element("span", "verified publisher", "badge verified"));
    if (one.core) {
      const [word, of] = one.failed ? ["fails", "failed"] : ["conforms", "conforms"];
      made.push(element("span", `${word} with core ${one.core}, ${one.tried}`, `badge ${of}`));
    }
    if (one.status) made.push(element("span", statuses[one.status], `badge ${statuses[one.status]}`));
    return made;
  }

  function card(one) {
    const item = document.createElement("li");
    const title = document.createElement("h2");
    const link = element("a", one.name);
    link.href = `plugins/${one.name}.html`;
    title.append(link, " ", element("span", one.version, "version"));
    const line = element("p", "", "badges");
    line.append(...badges(one).flatMap((each) => [each, " "]));
    const summary = element("p", one.summary, "summary");
    const known = [`by ${one.publisher}`, one.licence, one.day, one.provides.slice(0, 8).join(", ")];
    item.append(title, line, summary);
    if (one.reason) item.append(element("p", `${statuses[one.status]}: ${one.reason}`, "reason"));
    item.append(element("p", known.filter(Boolean).join(" · "), "hint"));
    for (const each of item.querySelectorAll("p")) each.dir = "auto";
    return item;
  }

  let hits = [], shown = 0;

  function show() {
    const next = hits.slice(shown, shown + STEP).map(card);
    shown += next.length;
    found.append(...next);
    more.hidden = shown === hits.length;
    more.textContent = `Show more (${hits.length - shown} left)`;
    return next[0];
  }

  function asked() {
    const all = [...new FormData(form)].map(([key, value]) => [key, value.trim()]);
    return new URLSearchParams(all.filter(([, value]) => value));
  }

  function update() {
    const now = asked();
    hits = search(now);
    shown = 0;
    found.replaceChildren();
    show();
    count.textContent = `${hits.length} of ${plugins.length} plugins`;
    const hash = String(now) && `#${now}`;
    if (hash !== location.hash) history.replaceState(null, "", hash || location.pathname);
  }

  /* What was searched for stands in the address, so that it can be sent, and is there on return. */
  function restore() {
    const before = new URLSearchParams(location.hash.slice(1));
    for (const field of form.elements) {
      if (field.type === "checkbox") field.checked = before.has(field.name);
      else if (field.name) field.value = before.get(field.name) || "";
      if (field.tagName === "SELECT" && field.selectedIndex < 0) field.selectedIndex = 0;
    }
    update();
  }

  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  more.addEventListener("click", () => show().querySelector("a").focus());
  addEventListener("hashchange", restore);
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    words.focus();
  });
  form.hidden = false;
  restore();
}
