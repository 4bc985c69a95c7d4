// What every page gains from a script: copying, times that stay true, searching while typing, live parts.
import { followChanges } from "./live.js";

document.documentElement.classList.add("scripted");

const say = (text) => {
  let region = document.getElementById("said");
  if (!region) {
    region = Object.assign(document.createElement("p"), { id: "said", className: "hidden" });
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = text;
};

const copy = async (button) => {
  const source = document.getElementById(button.dataset.copy);
  const text = source.textContent;
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    // no clipboard without TLS, or not allowed: select it, and let the browser's older command try
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  say(copied ? "Copied" : "Selected. Press Control and C to copy.");
  setTimeout(() => { button.textContent = "Copy"; }, 2500);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];
const tellTimes = () => {
  for (const element of document.querySelectorAll("time.ago")) {
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(element.dateTime)) / 1000));
    const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
    const text = `${Math.floor(seconds / size)} ${unit} ago`;
    if (element.textContent !== text) element.textContent = text;
  }
};
tellTimes();
setInterval(tellTimes, 1000);

// Replaces the live parts of this page by those of the same page as it is now, or at another address of it.
let asked = 0;
export const refresh = async (url = location.href) => {
  const turn = ++asked;
  const answer = await fetch(url, { headers: { "X-Console-Part": "1" } });
  if (answer.status === 401) return location.reload();
  if (!answer.ok || turn !== asked) return;
  swap(await answer.text());
};

export const swap = (html) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.outerHTML === part.dataset.was) continue;
    const was = fresh.outerHTML;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = [...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]);
    part.replaceWith(fresh);
    fresh.dataset.was = was;
    for (const [id, isOpen] of open) {
      const details = document.getElementById(id);
      if (details) details.open = isOpen;
    }
    if (focused) document.getElementById(focused)?.focus();
  }
  tellTimes();
};

for (const form of document.querySelectorAll("[data-filters]")) {
  let timer;
  const search = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
      const url = `${location.pathname}?${query}`;
      history.replaceState(null, "", url);
      refresh(url);
    }, wait);
  };
  form.addEventListener("input", () => search(250));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(0);
  });
}

followChanges(refresh);
