// The page works without this. It adds the steps while a check runs, buttons that
// copy, and words for screen readers. Whatever came from the network becomes text,
// never elements.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);

  function element(tag, className, text) {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  }

  // Icons are copies of those that the server drew: see "icon" in index.html.
  const svg = "http://www.w3.org/2000/svg";
  const paths = {
    good: "M5.8 10.4l2.9 2.9 5.6-6.2",
    warn: "M10 5.2v5.8M10 14.3v.2",
    bad: "M6.7 6.7l6.6 6.6M13.3 6.7l-6.6 6.6",
    note: "M10 9.2v5.2M10 5.7v.2",
    off: "M6.4 10h7.2",
  };
  const words = { good: "good", warn: "warning", bad: "error", note: "notice", off: "not needed" };

  function icon(state) {
    const e = document.createElementNS(svg, "svg");
    e.setAttribute("class", "icon " + state);
    e.setAttribute("viewBox", "0 0 20 20");
    e.setAttribute("aria-hidden", "true");
    const circle = document.createElementNS(svg, "circle");
    for (const [name, value] of [["cx", 10], ["cy", 10], ["r", 9]]) circle.setAttribute(name, value);
    e.append(circle);
    if (paths[state]) {
      const path = document.createElementNS(svg, "path");
      path.setAttribute("d", paths[state]);
      e.append(path);
    }
    return e;
  }

  function milliseconds(ms) {
    if (!(ms > 0)) return "";
    return ms < 1000 ? Math.max(1, Math.round(ms)) + " ms" : (ms / 1000).toFixed(1) + " s";
  }

  // A check that runs

  // As many rows as a check has addresses, and some; a stream may say more.
  const maxRows = 200;

  const order = ["name", "well-known", "srv", "addresses", "tls", "matrix"];
  const ranks = ["wait", "off", "good", "note", "warn", "bad"];

  class Way {
    constructor(running) {
      this.stages = new Map();
      for (const li of running.querySelectorAll("[data-stage]")) this.stages.set(li.dataset.stage, li);
      this.rows = 0;
      this.reached = -1;
      this.advance("name");
    }

    // advance says that the check has come to a stage.
    advance(id) {
      const at = order.indexOf(id);
      if (at <= this.reached) return;
      this.reached = at;
      order.forEach((name, i) => this.stages.get(name)?.classList.toggle("now", i === at));
      const names = { "well-known": "Asking for the well-known document", srv: "Asking the DNS", addresses: "Connecting", tls: "Looking at the certificates", matrix: "Asking the homeserver" };
      if (names[id]) $("status").textContent = names[id] + ".";
    }

    // judge sets how a stage stands, never better than it was: some addresses
    // that work do not mend those that do not.
    judge(id, state) {
      const li = this.stages.get(id);
      if (!li) return;
      const old = ranks.find((rank) => li.classList.contains(rank)) || "wait";
      if (ranks.indexOf(state) <= ranks.indexOf(old)) return;
      li.classList.replace(old, state);
      li.querySelector(".stage > .icon").replaceWith(icon(state));
    }

    row(id, state, where, text, facts) {
      const stage = this.stages.get(id)?.querySelector(".stage");
      if (!stage || this.rows >= maxRows) return;
      this.rows++;
      let list = stage.querySelector(".rows");
      if (!list) {
        list = element("ul", "rows");
        stage.append(list);
      }
      const li = element("li", state);
      const body = element("div");
      const p = element("p", "where");
      p.append(element("code", "", where));
      body.append(p, element("p", "what", text));
      if (facts) body.append(element("p", "facts", facts));
      li.append(icon(state), element("span", "hidden", (words[state] || "") + ": "), body);
      list.append(li);
    }
  }

  const outcomes = { used: "good", absent: "off", skipped: "off", invalid: "warn", temporary: "warn", denied: "warn" };

  // What each kind of event adds. The result that the server draws at the end has
  // all of it, and judges it.
  const draw = {
    asked(way, { asked }) {
      let id = "addresses";
      if (asked.query.startsWith("GET ")) id = "well-known";
      else if (asked.query.startsWith("SRV ")) id = "srv";
      way.judge("name", "good");
      way.advance(id);
      way.row(id, "note", asked.query, asked.detail, milliseconds(asked.duration_ms));
    },
    step(way, { step }) {
      way.judge("name", "good");
      const id = step.rule === "3" ? "well-known" : ["3.3", "3.4", "4", "5"].includes(step.rule) ? "srv" : "";
      if (!id) return;
      way.advance(id);
      way.judge(id, outcomes[step.outcome] || "off");
    },
    well_known(way, { well_known: k }) {
      way.advance("well-known");
      const failed = k.error;
      way.row("well-known", failed ? "note" : "good", k.address, failed ? failed.message : "m.server = " + (k.m_server ?? ""), milliseconds(k.duration_ms));
    },
    target(way, { target: t }) {
      way.advance("addresses");
      const where = (t.host.includes(":") ? "[" + t.host + "]" : t.host) + ":" + t.port;
      if (t.error) way.judge("addresses", "bad");
      way.row("addresses", t.error ? "bad" : "note", where, t.error ? t.error.message : "a server to connect to");
    },
    address(way, { address: a, of }) {
      const tcp = a.tcp || {};
      way.advance("addresses");
      way.judge("addresses", tcp.error ? "bad" : "good");
      way.row("addresses", tcp.error ? "bad" : "good", a.address, tcp.error ? tcp.error.message : "connected in " + (milliseconds(tcp.duration_ms) || "no time"), of);
      if (!a.tls) return;
      const sure = !a.tls.error && a.tls.verified;
      way.advance("tls");
      way.judge("tls", sure ? "good" : "bad");
      way.row("tls", sure ? "good" : "bad", a.address,
        a.tls.error ? a.tls.error.message : "the certificate " + (sure ? "proves " : "does not prove ") + a.tls.name,
        [a.tls.version, a.tls.alpn, milliseconds(a.tls.duration_ms)].filter(Boolean).join(" · "));
      const answers = new Map(); // protocols by what is said over them
      for (const http of a.http || []) {
        const failed = http.version.error || http.keys.error;
        const text = failed ? failed.message : [http.version.name, http.version.server_version].filter(Boolean).join(" ") || "a homeserver answers";
        way.advance("matrix");
        way.judge("matrix", failed ? "bad" : "good");
        answers.set(text, { state: failed ? "bad" : "good", over: [...(answers.get(text)?.over || []), http.protocol] });
      }
      for (const [text, { state, over }] of answers) way.row("matrix", state, a.address, text, over.join(", "));
    },
    finding(way, { finding }) {
      if (finding.severity === "error") $("status").textContent = finding.message;
    },
  };

  // Browsers do not tell a page that the rest of it will not come. The stream goes
  // the same way, so its trouble is taken for the page's; should the result come
  // nevertheless, it takes the place of what is said here.
  const reconnect = 10e3; // a browser tries every 3 s or so
  const discovery = 30e3; // the longest that client discovery may go on after the check
  const longest = 120e3; // a check, with the time that it may have to wait

  function lost() {
    const running = $("running");
    if (!running || $("result")) return;
    source?.close();
    $("running-text").hidden = true;
    $("lost").hidden = false;
    running.querySelector(".now")?.classList.remove("now");
  }

  function watch(running) {
    const way = new Way(running);
    setTimeout(lost, longest);
    window.addEventListener("offline", lost);
    const query = new URLSearchParams({ server_name: running.dataset.name, rules: running.dataset.rules });
    const source = new EventSource("./api/v1/check/stream?" + query);
    for (const kind of Object.keys(draw)) {
      source.addEventListener(kind, (message) => {
        try {
          draw[kind](way, JSON.parse(message.data));
        } catch {
          // Steps are a comfort. The result does not rest on them.
        }
      });
    }
    for (const kind of ["report", "failed"]) {
      source.addEventListener(kind, () => {
        source.close();
        setTimeout(lost, discovery);
      });
    }
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CONNECTING) return; // refused: the page may not be
      setTimeout(() => { if (source.readyState === EventSource.CONNECTING) lost(); }, reconnect);
    });
    return source;
  }

  // Copying

  async function copy(text, button) {
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      $("status").textContent = "Copied.";
    } catch {
      button.textContent = "Not copied";
      $("status").textContent = "The browser did not allow it. Mark the lines and copy them.";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }

  function addCopyButtons() {
    if (!navigator.clipboard) return; // not a secure context
    for (const box of document.querySelectorAll(".fix:has(pre)")) {
      const button = element("button", "", "Copy");
      button.type = "button";
      const title = box.querySelector("p");
      button.setAttribute("aria-description", title.textContent);
      button.addEventListener("click", () => copy(box.querySelector("pre").textContent, button));
      title.after(button);
    }
    const link = $("permanent");
    if (link) {
      const button = element("button", "link", "Copy link");
      button.type = "button";
      button.addEventListener("click", () => copy(link.href, button));
      const li = element("li");
      li.append(button);
      link.parentElement.after(li);
    }
  }

  // The page

  let source;

  // The rest of a running check's page comes later, in the same response: this
  // runs while the page still loads.
  function begin() {
    const running = $("running");
    if (running && !source) source = watch(running);
  }

  function finish() {
    begin();
    const running = $("running");
    const result = $("result");
    if (running) {
      source?.close();
      if (!result) {
        lost();
        return;
      }
      running.hidden = true; // as the style sheet does where :has is known
      document.title = result.dataset.title + " – mxdiscover";
      $("status").textContent = result.dataset.summary;
    }
    const link = $("permanent");
    // A reload of "Check again" should not ask anew each time.
    if (link && location.search.includes("refresh=")) history.replaceState(null, "", link.href);
    addCopyButtons();
  }

  document.addEventListener("submit", (event) => {
    if (event.target.id !== "ask") return;
    const name = $("name");
    name.value = name.value.trim();
    $("offline").hidden = navigator.onLine;
    if (!navigator.onLine) event.preventDefault();
  });

  window.addEventListener("online", () => { $("offline").hidden = true; });

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", finish);
    begin();
  } else {
    finish();
  }
})();
