// What is held: keys of the keyboard, fingers, buttons of a gamepad, one stack for all. The last press wins, and
// letting go returns to the one before.

const ARROWS = { ArrowLeft: "a", ArrowRight: "d", ArrowUp: "w", ArrowDown: "s" };
const TRAPS = new Set(["Tab", "Escape"]); // keys that stay the browser's: nobody may be locked in
const STEPPING = new Set([",", "."]); // keys of the page that repeat while they are held
const FIELDS = "input, select, textarea, [contenteditable], dialog";

/** A world's keys and their stand-ins: its own first, then numbers, then arrows for WASD and the reverse. */
export function keymap(codes) {
  const map = new Map();
  codes.forEach(({ key }, code) => !TRAPS.has(key) && map.set(key, code));
  const add = (key, code) => code !== undefined && !map.has(key) && map.set(key, code);
  const own = new Map(map);
  codes.forEach((_, code) => code < 9 && add(String(code + 1), code));
  for (const [arrow, letter] of Object.entries(ARROWS)) {
    add(arrow, own.get(letter));
    add(letter, own.get(arrow));
  }
  return map;
}

/** The name of a key as the browser gives it; letters small. */
export const nameOf = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);

export class Holds {
  /** @param {(code: number|null) => void} changed with the code that is held now */
  constructor(changed) {
    this.changed = changed;
    this.stack = new Map(); // source -> code, oldest first
    this.settling = new Map(); // source -> timer of a press to come
  }

  /** Press after some milliseconds, unless it is let go before. */
  settle(source, code, delay) {
    this.settling.set(source, setTimeout(() => this.press(source, code), delay));
  }

  press(source, code) {
    this.#forgo(source);
    this.stack.delete(source);
    this.stack.set(source, code);
    this.changed(code);
  }

  release(source) {
    this.#forgo(source);
    if (this.stack.delete(source)) this.changed([...this.stack.values()].at(-1) ?? null);
  }

  releaseAll() {
    for (const source of this.settling.keys()) this.#forgo(source);
    if (!this.stack.size) return;
    this.stack.clear();
    this.changed(null);
  }

  #forgo(source) {
    clearTimeout(this.settling.get(source));
    this.settling.delete(source);
  }
}

/**
 * Listen to the keyboard.
 * @param {Holds} holds
 * @param {() => Map<string, number>} map of the world
 * @param {(key: string, shift: boolean) => boolean} command does what a key means to the page; whether it has a meaning
 * @param {HTMLElement} stage takes the focus when a field is left
 */
export function listen(holds, map, command, stage) {
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest?.(FIELDS);
    if (event.key === "Escape" && field && !field.closest("dialog")) stage.focus({ preventScroll: true });
    if (field || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.closest?.("button, a, summary") && (event.key === " " || event.key === "Enter");
    if (onButton) return;
    const key = nameOf(event);
    const shift = event.shiftKey && !map().has("Shift");
    const code = map().get(key);
    if (event.repeat && ((code !== undefined && !shift) || !STEPPING.has(key))) {
      if (code !== undefined) event.preventDefault();
    } else if (shift && command(key, true)) {
      event.preventDefault();
    } else if (code !== undefined) {
      holds.press(`key:${event.code}`, code);
      event.preventDefault();
    } else if (command(key, shift)) {
      event.preventDefault();
    }
  });
  document.addEventListener("keyup", (event) => {
    holds.release(`key:${event.code}`);
    if (event.key === "Meta") holds.releaseAll(); // macOS does not tell which keys are let go while Command is down
  });
  window.addEventListener("blur", () => holds.releaseAll());
}
