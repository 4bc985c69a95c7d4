// The segment builder: each edit is made by the server, the page's address holds the draft, and this only
// sends the edit without a reload, lets it be dragged, and asks for the size after a moment of quiet.
import { say, supersede, swap } from "./parts.js";

const form = document.getElementById("builder");
const rule = document.getElementById("rule-region");
const QUIET_MS = 500;
const STALE_MS = 6000; // the sample behind an estimate may be 5 s old: ask once more when it can't be

let timer, turn = 0;
const tellSize = (after = QUIET_MS) => {
  clearTimeout(timer);
  const mine = ++turn;
  timer = setTimeout(async () => {
    const size = document.getElementById("size");
    if (after === QUIET_MS) size.textContent = "Estimating…";
    const base = form.action.replace(/\/segments\/[^/]*$/, "/segments/size");
    const query = new URLSearchParams({ rule: form.elements.rule.value });
    let text;
    try {
      const answer = await fetch(`${base}?${query}`, { headers: { "X-Console-Part": "size" } });
      text = answer.ok ? await answer.text() : "";
    } catch {
      text = "";
    }
    if (mine !== turn) return;
    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("size");
    if (fresh) size.replaceWith(fresh);
    else size.textContent = "Can't be estimated right now";
    if (after === QUIET_MS) tellSize(STALE_MS);
  }, after);
};

// One edit after the other: each begins with the rule that the one before has made.
let edits = Promise.resolve();
const edit = (asked) => {
  edits = edits.then(() => send(asked)).catch(() => say("The edit could not be sent. Try again."));
};

const send = async (asked) => {
  const body = new URLSearchParams(new FormData(form));
  body.set("do", asked);
  rule.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${form.action}/edit`, { method: "POST", body, headers: { "X-Console-Part": "edit" } });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    const html = await answer.text();
    history.replaceState(null, "", answer.url);
    supersede();
    swap(html);
    tellSize();
    const page = new DOMParser().parseFromString(html, "text/html");
    const notice = [...page.querySelectorAll("main > .notice")].pop();
    if (notice) say(notice.textContent, notice.classList.contains("failed"));
    if (!document.activeElement || document.activeElement === document.body) rule.focus();
  } finally {
    rule.removeAttribute("aria-busy");
  }
};

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (event.target !== form || button?.name !== "do" || button.value === "save") return;
  event.preventDefault();
  edit(button.value);
});

// Dragging: an audience of the criteria, or an item of the rule, onto a group.
let dragged = "";
const groupAt = (target) => target.closest?.("#rule-region")?.contains(target)
  ? target.closest(".rule-group") ?? rule.querySelector(".rule-group")
  : null;
const clear = () => document.querySelectorAll(".over").forEach((element) => element.classList.remove("over"));

document.addEventListener("dragstart", (event) => {
  const item = event.target.closest?.("[draggable=true]");
  if (!item) return;
  dragged = item.dataset.audience ? `add:${item.dataset.audience}` : `move:${item.dataset.place}`;
  event.dataTransfer.setData("text/plain", dragged);
  event.dataTransfer.effectAllowed = item.dataset.audience ? "copy" : "move";
  document.body.dataset.dragging = "";
});
document.addEventListener("dragover", (event) => {
  const group = dragged && groupAt(event.target);
  clear();
  if (!group) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = dragged.startsWith("add:") ? "copy" : "move";
  group.classList.add("over");
});
document.addEventListener("drop", (event) => {
  const group = dragged && groupAt(event.target);
  if (!group) return;
  event.preventDefault();
  edit(`${dragged}:${group.dataset.place}`);
});
document.addEventListener("dragend", () => {
  dragged = "";
  clear();
  delete document.body.dataset.dragging;
});
