// Listens for changes of the account while the page is seen. A stream that breaks is opened again by the browser.
const QUIET_MS = 1000;

export const followChanges = (refresh) => {
  const main = document.querySelector("main[data-account-url]");
  if (!main || !document.querySelector("[data-live]")) return;
  let source, timer, last = 0;
  const soon = () => {
    // the first change shows at once, a crowd of them once a second
    timer ??= setTimeout(() => {
      timer = undefined;
      last = Date.now();
      refresh();
    }, Math.max(0, last + QUIET_MS - Date.now()));
  };
  const state = (text) => {
    const sign = document.getElementById("live-state");
    if (sign) sign.textContent = text;
  };
  const open = () => {
    source = new EventSource(`${main.dataset.accountUrl}/live`);
    source.addEventListener("hello", () => state("Live"));
    source.addEventListener("changed", soon);
    source.addEventListener("error", () => state("Reconnecting…"));
  };
  const close = () => source?.close();
  // browsers allow few streams to one host: a tab that nobody sees keeps none
  document.addEventListener("visibilitychange", () => {
    close();
    if (document.visibilityState === "visible") {
      open();
      soon();
    }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (document.visibilityState === "visible") open();
};
