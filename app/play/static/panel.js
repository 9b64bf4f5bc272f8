// The buttons of the actions: held by mouse, fingers or keys; lit while held, marked while a replay plays them.

/** How a key is written on a cap. */
const CAPS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space" };
export const capOf = (key) => CAPS[key] ?? (key.length === 1 ? key.toUpperCase() : key);

/** Milliseconds that a finger rests on a button until it holds, where the buttons scroll: it may be a swipe. */
const SETTLE = 90;

/** A colour of its own for each code, the same on buttons and on the timeline. */
export const colourOf = (code, count) => `hsl(${Math.round((code * 360) / count + 28) % 360} 62% 58%)`;

export class ActionPanel {
  /**
   * @param {HTMLElement} place
   * @param {import("./keys.js").Holds} holds
   */
  constructor(place, holds) {
    Object.assign(this, { place, holds, buttons: [] });
    const scrolls = () => place.classList.toggle("scrolls", place.scrollHeight > place.clientHeight + 1);
    new ResizeObserver(scrolls).observe(place);
  }

  /** Buttons for the codes of a world. */
  build(codes) {
    this.holds.releaseAll();
    this.buttons = codes.map((code, number) => this.#button(code, number, codes.length));
    this.place.replaceChildren(...this.buttons);
  }

  /** @param {number|null} held by the player @param {number|null} taken that led to the frame on the screen */
  show(held, taken) {
    this.buttons.forEach((button, code) => {
      const pressed = String(code === held);
      if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
      button.classList.toggle("taken", code === taken);
    });
  }

  #button({ name, key, usage }, code, count) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "action";
    button.dataset.code = code;
    button.setAttribute("aria-pressed", "false");
    button.title = `${name}: key ${capOf(key)}${code < 9 ? ` or ${code + 1}` : ""}; ${Math.round(usage * 100)}% of the footage`;
    button.style.setProperty("--colour", colourOf(code, count));
    const cap = document.createElement("kbd");
    cap.textContent = capOf(key);
    const label = document.createElement("span");
    label.textContent = name;
    button.append(cap, label);
    this.#listen(button, code);
    return button;
  }

  #listen(button, code) {
    let handled = false; // whether the click that comes belongs to a press that is over
    const isKey = (event) => event.key === " " || event.key === "Enter";
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      handled = true;
      const source = `pointer:${event.pointerId}`;
      if (event.pointerType !== "touch" || !this.place.classList.contains("scrolls")) this.holds.press(source, code);
      else this.holds.settle(source, code, SETTLE); // it may be about to swipe
    });
    button.addEventListener("pointercancel", () => (handled = false));
    button.addEventListener("pointerup", (event) => {
      const source = `pointer:${event.pointerId}`;
      if (this.holds.settling.has(source)) this.holds.press(source, code); // a tap: let go at once, below
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
      button.addEventListener(end, (event) => this.holds.release(`pointer:${event.pointerId}`));
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch is a hold
    button.addEventListener("keydown", (event) => {
      if (!isKey(event)) return;
      event.preventDefault(); // no click follows: the release is the keyboard's
      if (!event.repeat) this.holds.press(`key:${event.code}`, code);
    });
    button.addEventListener("keyup", (event) => isKey(event) && event.preventDefault());
    button.addEventListener("click", () => {
      // A click without a press before comes from a screen reader or a switch: it holds until the next one.
      const source = `click:${code}`;
      if (!handled && this.holds.stack.has(source)) this.holds.release(source);
      else if (!handled) this.holds.press(source, code);
      handled = false;
    });
  }
}
