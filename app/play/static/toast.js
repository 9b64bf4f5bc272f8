// Short messages: shown for a while, and read out by screen readers (politely; faults at once).

const SHOWN = 6000; // ms
const MOST = 3;

/**
 * @param {string} text
 * @param {"note"|"fault"} kind
 */
export function toast(text, kind = "note") {
  const place = document.getElementById("toasts");
  for (const old of place.children) if (old.dataset.text === text) old.remove();
  const box = document.createElement("div");
  box.className = `toast ${kind}`;
  box.dataset.text = text;
  box.setAttribute("role", kind === "fault" ? "alert" : "status");
  const close = document.createElement("button");
  close.type = "button";
  close.className = "quiet";
  close.textContent = "×";
  close.setAttribute("aria-label", "Close this message");
  close.addEventListener("click", () => box.remove());
  const words = document.createElement("span");
  box.append(words, close);
  place.append(box);
  words.textContent = text; // after the box stands there, so that it is read out
  while (place.children.length > MOST) place.firstElementChild.remove();
  setTimeout(() => box.remove(), SHOWN);
}

/** What screen readers hear of the game's state; said once each time that it changes. */
export function announce(text) {
  const place = document.getElementById("status");
  if (place.textContent !== text) place.textContent = text;
}
