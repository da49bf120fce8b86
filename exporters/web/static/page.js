// Keeps the page fresh: the server pushes a line at every change, and the page is fetched again and swapped in.
// Without pushes it is fetched on a timer. When neither works it says so, large, instead of showing old green.
"use strict";
(() => {
  const STALE_AFTER_MS = 45000;
  const REFRESH_EVERY_MS = 15000; // also keeps "for how long" moving when nothing changes
  const SHORTEST_GAP_MS = 1000;
  const FETCH_LIMIT_MS = 10000;
  const RECONNECT_MS = 30000;

  let freshAt = Date.now();
  let askedAt = 0;
  let asking = false;
  let askAgain = false;
  let timer = 0;

  function openDetails() {
    return new Set([...document.querySelectorAll("details[id][open]")].map((d) => d.id));
  }

  function swap(text) {
    const made = new DOMParser().parseFromString(text, "text/html");
    const fresh = made.getElementById("page");
    const old = document.getElementById("page");
    if (!fresh || !old) {
      throw new Error("the answer is not the page");
    }
    const open = openDetails();
    for (const details of fresh.querySelectorAll("details[id]")) {
      details.open = open.has(details.id);
    }
    old.replaceWith(document.adoptNode(fresh));
    document.title = made.title;
    document.getElementById("stale-at").textContent = document.getElementById("made").textContent;
  }

  function showAge() {
    const stale = Date.now() - freshAt > STALE_AFTER_MS;
    document.getElementById("stale").hidden = !stale;
    document.body.classList.toggle("stale", stale);
  }

  async function refresh() {
    if (asking) {
      askAgain = true;
      return;
    }
    asking = true;
    askedAt = Date.now();
    const abort = new AbortController();
    const limit = setTimeout(() => abort.abort(), FETCH_LIMIT_MS);
    try {
      const reply = await fetch(location.pathname, { cache: "no-store", signal: abort.signal });
      if (reply.ok) {
        swap(await reply.text());
        freshAt = Date.now();
      }
    } catch (error) {
      console.info("not refreshed:", error.message);
    } finally {
      clearTimeout(limit);
      asking = false;
      showAge();
      if (askAgain) {
        askAgain = false;
        soon();
      }
    }
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.max(0, askedAt + SHORTEST_GAP_MS - Date.now()));
  }

  function listen() {
    const source = new EventSource("api/v1/events");
    source.addEventListener("status", soon);
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(listen, RECONNECT_MS);
      }
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) {
      soon();
    }
  });
  setInterval(refresh, REFRESH_EVERY_MS);
  setInterval(showAge, 1000);
  listen();
})();
