// What the keys mean to the page, and the overlay that lists them. A key that the world owns moves to Shift.

import { capOf } from "./panel.js";

const by = (id) => document.getElementById(id);

/**
 * Keys of the page.
 * @param {Record<string, () => void>} deeds by name
 */
export function commandsOf(deeds) {
  return [
    [" ", "pause, play", deeds.pause],
    [".", "one step", deeds.once],
    [",", "one step back", deeds.back],
    ["r", "reset: from the prompt again", deeds.reset],
    ["n", "snap back to what the encoder knows", deeds.snap],
    ["c", "compare with what really came", deeds.compare],
    ["m", "record a film, stop", deeds.record],
    ["l", "copy a link that replays", deeds.share],
    ["f", "full screen", deeds.full],
    ["-", "slower", deeds.slower],
    ["+", "faster", deeds.faster],
    ["?", "this help", deeds.help],
  ];
}

/** Does what a key means to the page; whether it means something. */
export function obey(commands, map, key, shift) {
  const found = commands.find(([own]) => own === (key === "=" ? "+" : key));
  if (!found) return false;
  const [own, , deed] = found;
  const letter = own === " " || /[a-z]/.test(own);
  if (letter && shift !== map.has(own)) return false;
  deed();
  return true;
}

/** Fill the overlay for a world. */
export function fillHelp(codes, commands, map) {
  const row = (keys, text) => {
    const [term, words] = [document.createElement("dt"), document.createElement("dd")];
    keys.forEach((key) => {
      const cap = document.createElement("kbd");
      cap.textContent = key;
      term.append(cap, " ");
    });
    words.textContent = text;
    return [term, words];
  };
  const keysOf = (code) => [...map].filter(([, owner]) => owner === code).map(([key]) => capOf(key));
  by("help-actions").replaceChildren(...codes.flatMap(({ name }, code) => row(keysOf(code), name)));
  const own = ([key, text]) => row([(map.has(key) && /[a-z ]/.test(key) ? "Shift " : "") + capOf(key)], text);
  by("help-page").replaceChildren(...commands.flatMap(own), ...row(["Esc"], "leave a field"));
}
