// Recording: the first step is noted, stopping asks the server for the film, which is then shown and saved.

import { withToken } from "./connection.js";

const LAST_SECONDS = 10;
const by = (id) => document.getElementById(id);

export class Films {
  /**
   * @param {import("./player.js").Player} player
   * @param {(text: string, kind?: string) => void} tell
   */
  constructor(player, tell) {
    Object.assign(this, { player, tell, first: null, made: 0 });
  }

  /** Begin, or stop and ask for the film. */
  toggle() {
    if (this.first === null) {
      this.first = this.player.state.step;
      this.tell(`Recording from step ${this.first}.`);
    } else {
      const first = this.first;
      this.first = null;
      this.#ask(first);
    }
  }

  last() {
    this.#ask(Math.max(0, this.player.state.step - Math.round(LAST_SECONDS * this.player.state.world.fps)));
  }

  /** The branch was cut after a step, or begun anew (step 0). */
  cut(step) {
    if (this.first !== null) this.first = Math.min(this.first, step);
  }

  /** Whether the film has become as long as the server makes them. */
  get full() {
    const { step, limits } = this.player.state;
    return this.first !== null && step - this.first + 1 >= (limits?.film_frames ?? Infinity);
  }

  /** A film is ready: fetch, show and save it. */
  async take({ path, kind, frames }) {
    const answer = await fetch(withToken(path)).catch(() => null);
    if (!answer?.ok) return this.tell("The film could not be fetched. Ask for it again.", "fault");
    const file = await answer.blob();
    this.made += 1;
    const name = `${this.player.state.world.name}-${this.made}.${kind}`;
    const address = URL.createObjectURL(file);
    by("films").prepend(this.#card(name, address, kind, frames, file.size));
    by("films").querySelector("a").click();
    this.tell(`${name} is saved: ${frames} frames.`);
  }

  #ask(first) {
    const { step, limits } = this.player.state;
    const from = Math.max(first, step - (limits?.film_frames ?? step) + 1, 0);
    this.player.film(by("film-kind").value, from, step, by("film-overlay").checked);
    this.tell("The film is being made.");
  }

  #card(name, address, kind, frames, size) {
    const card = document.createElement("li");
    const picture = document.createElement(kind === "gif" ? "img" : "video");
    if (kind === "gif") picture.alt = "The film";
    else Object.assign(picture, { controls: true, loop: true, muted: true, playsInline: true });
    picture.setAttribute("aria-label", `The film ${name}`);
    picture.src = address;
    const link = document.createElement("a");
    link.href = address;
    link.download = name;
    link.textContent = name;
    const about = document.createElement("small");
    about.textContent = `${frames} frames, ${Math.max(1, Math.round(size / 1024))} KB`;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => {
      URL.revokeObjectURL(address);
      card.remove();
    });
    card.append(picture, link, about, remove);
    return card;
  }
}
