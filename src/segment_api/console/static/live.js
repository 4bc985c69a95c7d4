// Listens for changes of the account while the page is seen. A stream that breaks is opened again by the browser.
const QUIET_MS = 1000;

export const followChanges = (refresh) => {
  const main = document.querySelector("main[data-account-url]");
  if (!main || !document.querySelector("[data-live]")) return;
  let source, timer, last = 0;
  const kinds = new Set();
  const soon = (event) => {
    for (const kind of event.data.split(" ")) kinds.add(kind);
    // the first change shows at once, a crowd of them once a second
    timer ??= setTimeout(async () => {
      timer = undefined;
      last = Date.now();
      const taken = new Set(kinds);
      kinds.clear();
      state(await refresh(taken) ? "Live" : "Reconnecting…");
    }, Math.max(0, last + QUIET_MS - Date.now()));
  };
  const state = (text) => {
    for (const sign of document.querySelectorAll(".live-state")) {
      sign.textContent = text;
      sign.classList.toggle("on", text === "Live");
    }
  };
  const open = () => {
    source = new EventSource(`${main.dataset.accountUrl}/live`);
    source.addEventListener("open", () => state("Live"));
    source.addEventListener("changed", soon);
    source.addEventListener("error", () => state("Reconnecting…"));
  };
  const close = () => source?.close();
  // browsers allow few streams to one host: a tab that nobody sees keeps none
  document.addEventListener("visibilitychange", () => {
    close();
    if (document.visibilityState === "visible") open();
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (document.visibilityState === "visible") open();
};
