// Keeps a page as the server sees it: every part that changes comes as an event from the page's own
// address. Without this script a page is the same, as of the moment it was loaded.
"use strict";

(() => {
  const RETRY_MS = 10_000;
  const line = document.getElementById("live");
  const told = document.getElementById("told");
  let source = null;
  let retry = 0;

  function say(word, tone) {
    line.textContent = word;
    line.className = `live ${tone}`;
    line.hidden = false;
  }

  // What a reader has opened or stands on stays so, by its id.
  function renew(name, html) {
    const part = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
    if (part === null) return;
    if (part.matches(":active")) {
      // A button is held down: it must still be there when it is let go.
      setTimeout(renew, 300, name, html);
      return;
    }
    const focused = part.contains(document.activeElement) ? path(document.activeElement) : null;
    const open = [...part.querySelectorAll("details[open]")].map((each) => each.id);
    part.innerHTML = html;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused !== null) part.querySelector(focused)?.focus({ preventScroll: true });
    if (name === "title" && told.textContent !== document.title) told.textContent = document.title;
  }

  // How to find the same control again: by where it leads or sends to.
  function path(control) {
    const form = control.closest("form");
    if (form !== null) return `form[action="${CSS.escape(form.getAttribute("action"))}"] ${control.localName}`;
    const menu = control.closest("details");
    if (menu !== null) return `#${CSS.escape(menu.id)} summary`;
    const link = control.getAttribute("href");
    return link === null ? null : `a[href="${CSS.escape(link)}"]`;
  }

  function open() {
    close();
    source = new EventSource(location.pathname + location.search);
    source.addEventListener("open", () => say("live", "ok"));
    source.addEventListener("part", (event) => {
      const { name, html } = JSON.parse(event.data);
      renew(name, html);
    });
    source.addEventListener("error", () => {
      say("not live: no answer, trying again", "warn");
      // A refusal ends a source for good; what merely broke off comes again by itself.
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    });
  }

  function close() {
    clearTimeout(retry);
    source?.close();
    source = null;
  }

  // A page that nobody looks at costs the server nothing.
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  if (!document.hidden) open();
})();
