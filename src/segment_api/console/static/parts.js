// What the scripts of all pages share. Modules name one another without a version, so each is loaded once.

// Says what happened, to eyes and to screen readers alike.
let hush;
export const say = (text, failed = false) => {
  const region = document.getElementById("said");
  region.textContent = text;
  region.className = failed ? "said failed" : "said";
  clearTimeout(hush);
  hush = setTimeout(() => { region.className = "hidden"; }, 6000);
};

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];
export const tellTimes = () => {
  for (const element of document.querySelectorAll("time.ago")) {
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(element.dateTime)) / 1000));
    const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
    const text = `${Math.floor(seconds / size)} ${unit} ago`;
    if (element.textContent !== text) element.textContent = text;
  }
};
// Replaces the live parts of this page by those of the page as it is now. False when it could not be fetched.
let asked = 0;
export const supersede = () => { asked += 1; }; // what is under way shows an older address
export const refresh = async (kinds) => {
  const wanted = (part) => !kinds || part.dataset.live.split(" ").some((kind) => kinds.has(kind));
  if (![...document.querySelectorAll("[data-live]")].some(wanted)) return true;
  const turn = ++asked;
  try {
    const answer = await fetch(location.href, { headers: { "X-Console-Part": "refresh" } });
    if (answer.status === 401) location.reload();
    const html = await answer.text();
    if (answer.ok && turn === asked) swap(html, wanted);
    return answer.ok;
  } catch {
    return false;
  }
};

const mark = (element) => element.id || element.getAttribute("href") || element.getAttribute("aria-label");

export const swap = (html, wanted = () => true) => {
  if ("dragging" in document.body.dataset) return;
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const part of [...document.querySelectorAll("[data-live]")].filter(wanted)) {
    const fresh = page.getElementById(part.id);
    if (!fresh || part.hasAttribute("data-paused")) continue;
    const focused = part.contains(document.activeElement) ? mark(document.activeElement) : null;
    const open = [...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]);
    part.replaceWith(fresh);
    for (const [id, isOpen] of open) {
      const details = document.getElementById(id);
      if (details) details.open = isOpen;
    }
    if (focused) [...fresh.querySelectorAll("a, button, summary")].find((e) => mark(e) === focused)?.focus();
  }
  tellTimes();
};
