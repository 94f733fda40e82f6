"use strict";
(() => {
  const root = document.documentElement, say = document.getElementById("say");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = document.getElementById("theme");
  const mark = () => theme.setAttribute("aria-pressed", String(dark()));
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* private window */ }
    mark();
  });
  mark();

  async function copy(text) {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* not a secure context */ }
    const box = document.createElement("textarea");
    box.value = text; box.className = "sr"; box.setAttribute("readonly", "");
    document.body.append(box); box.select();
    const done = document.execCommand("copy");
    box.remove();
    return done;
  }
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const done = await copy(button.dataset.text);
      button.textContent = done ? "Copied" : "Select it";
      if (done) button.dataset.done = "";
      say.textContent = done ? "Copied to the clipboard" : "Could not copy; select the text instead";
      setTimeout(() => { button.textContent = "Copy"; delete button.dataset.done; button.focus({preventScroll: true}); }, 1500);
    });
  }

  // The server's words are put into the page as text, never as markup.
  const el = (name, cls, ...inner) => {
    const node = document.createElement(name);
    if (cls) node.className = cls;
    node.append(...inner);
    return node;
  };
  const put = (node, text) => {
    if (node && node.textContent !== text) { node.textContent = text; node.classList.remove("fresh"); void node.offsetWidth; node.classList.add("fresh"); }
  };
  const drawn = new Map();
  const rows = (id, lines, make) => {
    const text = JSON.stringify(lines), body = document.getElementById(id);
    if (!body || drawn.get(id) === text) return;
    drawn.set(id, text);
    body.replaceChildren(...lines.map(make));
  };
  const states = {ok: "All well", degraded: "Needs a look", down: "Not well", gone: "Not reachable"};
  const tone = (state) => { const node = document.getElementById("state"); node.dataset.state = state; put(node.lastElementChild, states[state] || state); };
  const short = (id) => id.length > 18 ? id.slice(0, 10) + "…" + id.slice(-4) : id;
  const title = (node, text) => { node.title = text; return node; };
  const figures = ["assets", "circulation", "deposits", "income"];

  function show(s) {
    tone(s.state);
    put(document.getElementById("uptime"), s.uptime);
    document.getElementById("unbalanced").hidden = s.balanced;
    for (const u of s.units) {
      const box = document.querySelector(`[data-unit="${CSS.escape(u.unit)}"]`);
      if (!box) { location.reload(); return; }
      for (const name of figures) put(box.querySelector(`[data-figure=${name}]`), u[name]);
      put(box.querySelector("[data-figure=covered]"), String(u.covered));
      let x = 0;
      box.querySelectorAll("rect").forEach((rect, i) => { rect.setAttribute("x", x / 10 + "%"); rect.setAttribute("width", u.shares[i] / 10 + "%"); x += u.shares[i]; });
    }
    rows("keysets", s.keysets, (k) => el("tr", k.active ? "" : "off",
      el("td", "", title(el("code", "", short(k.id)), k.id), " ", el("span", "badge", k.active ? "ACTIVE" : "RETIRED")),
      el("td", "", k.unit), el("td", "wide", k.fee), el("td", "n wide", k.issued), el("td", "n wide", k.redeemed), el("td", "n", k.outstanding)));
    rows("rails", s.rails, (r) => {
      const line = el("li", "", el("span", "dot"), el("span", "name", r.name), el("span", "badge", r.method));
      line.dataset.ok = r.ok ? "yes" : "no";
      if (r.play) line.append(el("span", "badge play", "PLAY"));
      line.append(el("span", "sr", r.ok ? "answers" : "does not answer"), el("span", "amount", r.balance));
      return line;
    });
    const empty = document.getElementById("no-quotes");
    if (empty) { empty.hidden = s.quotes.length > 0; document.getElementById("quotes-table").hidden = !s.quotes.length; }
    rows("quotes", s.quotes, (q) => el("tr", "",
      el("td", q.direction, q.direction === "in" ? "↓ in" : "↑ out"), el("td", "wide", q.method), el("td", "n", q.amount), el("td", "", q.state.toLowerCase()), el("td", "n", q.age)));
  }
  let pause = 2500;
  async function look() {
    if (!document.hidden) {
      try {
        const answer = await fetch("status.json", {cache: "no-store", signal: AbortSignal.timeout(8000)});
        if (!answer.ok) throw new Error(String(answer.status));
        show(await answer.json());
        pause = 2500;
      } catch { tone("gone"); pause = Math.min(30000, pause * 2); }
    }
    setTimeout(look, pause);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) pause = 2500; });
  setTimeout(look, pause);
})();
