// Keeps the page up to date, and says loudly when it cannot: a page that only looks alive is worse than none.
"use strict";

(() => {
  const DEAD_AFTER = 10000, FETCH_LIMIT = 8000, ACTIVE_EVERY = 60000;
  const banner = document.getElementById("not-live");
  const bannerWords = document.getElementById("not-live-words");
  const state = document.getElementById("live-words");
  const token = document.querySelector('meta[name="csrf-token"]').content;
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  let version = null, wanted = 0, shown = -1, fetching = false, heard = Date.now(), ended = false, source = null;
  let active = Date.now();

  function lost(words) {
    banner.hidden = false;
    bannerWords.textContent = words;
    document.body.classList.add("not-live");
    state.textContent = "This page is not live.";
  }

  function found() {
    banner.hidden = true;
    document.body.classList.remove("not-live");
    state.textContent = `Live. Last looked ${clock.format(new Date())}.`;
  }

  // Replaces what may have changed with what the server says now; what the person is writing stays.
  function place(fresh) {
    const known = new Set([...document.querySelectorAll("#alerts .card > a")].map((link) => link.getAttribute("href")));
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next) {
        part.replaceChildren();
        continue;
      }
      const open = part.querySelector("details")?.open;
      if (part.innerHTML === next.innerHTML && part.className === next.className) continue;
      const focused = part.contains(document.activeElement) ? document.activeElement : null;
      const where = focused?.getAttribute("href") ?? null;
      part.className = next.className;
      part.replaceChildren(...next.childNodes);
      if (open) part.querySelector("details").open = true;
      if (where) [...part.querySelectorAll("a")].find((link) => link.getAttribute("href") === where)?.focus();
      else if (focused?.type === "submit") part.querySelector("button")?.focus();
    }
    for (const link of document.querySelectorAll("#alerts .card > a")) {
      if (known.size && !known.has(link.getAttribute("href"))) link.parentElement.classList.add("new");
    }
    const stillOpen = fresh.getElementById("resolve"), form = document.getElementById("resolve");
    if (form && !stillOpen) form.remove();
    document.title = fresh.title;
    document.dispatchEvent(new CustomEvent("pumpwatch:news"));
  }

  async function refresh() {
    if (fetching || ended) return;
    fetching = true;
    try {
      while (shown < wanted) {
        const target = wanted, address = new URL(location.href);
        // A page that shows the answer to a form is fetched from its own address.
        address.pathname = address.pathname.replace(/\/(confirm|resolve|withdraw)$/, "");
        address.searchParams.set("auto", "1");
        address.hash = "";
        const answer = await fetch(address, { signal: AbortSignal.timeout(FETCH_LIMIT), redirect: "manual" });
        if (answer.type === "opaqueredirect") return signedOut();
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        place(new DOMParser().parseFromString(await answer.text(), "text/html"));
        shown = target;
        found();
      }
    } catch {
      lost("The page could not be brought up to date; what it shows may be old. Trying again.");
      setTimeout(() => { wanted += 1; refresh(); }, 2000);
    } finally {
      fetching = false;
    }
  }

  function signedOut() {
    ended = true;
    source?.close();
    lost("You are signed out, so this page no longer shows new alerts. Sign in again.");
    banner.querySelector("a").textContent = "Sign in";
  }

  function connect() {
    source?.close();
    source = new EventSource("/events");
    source.onopen = () => { version = null; };
    source.addEventListener("state", (event) => {
      const said = JSON.parse(event.data);
      if (!said.fresh) return lost("Pumpwatch has lost its database; this page may be out of date.");
      heard = Date.now();
      if (version !== said.version) {
        version = said.version;
        wanted += 1;
        refresh();
      } else if (!fetching) {
        found();
      }
    });
    source.addEventListener("signed-out", signedOut);
  }

  setInterval(() => {
    if (ended || Date.now() - heard < DEAD_AFTER) return;
    lost(`Nothing heard from Pumpwatch since ${clock.format(new Date(heard))}; this page may be out of date.`);
    if (source.readyState === EventSource.CLOSED) connect();
  }, 2000);

  // A phone that was asleep shows old news for a moment: say so until the page was looked at again.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible" || ended) return;
    if (Date.now() - heard > DEAD_AFTER) lost("Waking up; what the page shows may be old.");
    if (source.readyState === EventSource.CLOSED) connect();
    wanted += 1;
    refresh();
  });

  function post(address) {
    return fetch(address, { method: "POST", headers: { "x-csrf-token": token }, signal: AbortSignal.timeout(FETCH_LIMIT) });
  }

  // Reading counts as activity, so that a session does not end under the reader's hands.
  for (const kind of ["pointerdown", "keydown", "scroll"]) {
    addEventListener(kind, () => {
      if (ended || Date.now() - active < ACTIVE_EVERY) return;
      active = Date.now();
      post("/api/session/active").catch(() => {});
    }, { passive: true });
  }

  // One tap is one action, however long the answer takes.
  document.addEventListener("submit", (event) => {
    const button = event.target.querySelector("button[type=submit]");
    setTimeout(() => { button.disabled = true; }, 0);
    setTimeout(() => { button.disabled = false; }, 8000);
  });

  const seen = document.querySelector("[data-seen]");
  if (seen && document.visibilityState === "visible") post(seen.dataset.seen).catch(() => {});
  connect();
})();
