// What every page gains from a script: copying, times that stay true, searching while typing, live parts.
import { followChanges } from "./live.js";
import { refresh, say, tellTimes } from "./parts.js";

document.documentElement.classList.add("scripted");

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

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pause]");
  if (!button) return;
  const paused = document.getElementById(button.dataset.pause).toggleAttribute("data-paused");
  button.textContent = paused ? "Resume" : "Pause";
  if (!paused) refresh();
});

tellTimes();
setInterval(tellTimes, 1000);

// Forms whose fields become part of the address, without a reload: searches while typing, the others when sent.
for (const form of document.querySelectorAll("[data-filters], [data-into-address]")) {
  let timer;
  const show = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const address = new URL(location.href);
      for (const field of form.querySelectorAll("input:not([type=hidden]), select")) {
        if (field.type === "checkbox" && !field.checked) address.searchParams.delete(field.name);
        else address.searchParams.set(field.name, field.value);
      }
      address.searchParams.delete("page");
      history.replaceState(null, "", address);
      if (!await refresh()) say("The data can't be reached right now. Try again in a moment.", true);
    }, wait);
  };
  if (form.matches("[data-filters]")) {
    form.addEventListener("input", () => show(250));
    // somebody may have typed before this script was there
    if ([...form.elements].some((field) => field.type === "search" && field.value !== field.defaultValue)) show(0);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    show(0);
  });
}

followChanges(refresh);
