// Recording: the first step is noted, stopping asks the server for the film, which is then shown and saved. A recording
// that has become as long as a film of its kind can be stops by itself.

import { withToken } from "./connection.js";

const LAST_SECONDS = 10;
const by = (id) => document.getElementById(id);

export class Films {
  /**
   * @param {import("./player.js").Player} player
   * @param {(text: string, kind?: string) => void} tell
   */
  constructor(player, tell) {
    Object.assign(this, { player, tell, first: null, kind: "mp4", made: 0 });
  }

  /** Begin, or stop and ask for the film. */
  toggle() {
    if (this.first === null) {
      const { step, world } = this.player.state;
      Object.assign(this, { first: step, kind: by("film-kind").value });
      const most = this.#most(this.kind);
      const what = this.kind === "gif" ? "A GIF" : "A film";
      this.tell(`Recording from step ${step}. ${what} has ${most} frames (${Math.round(most / world.fps)} s) at most.`);
    } else {
      const { first, kind } = this;
      this.first = null;
      this.#ask(kind, first);
    }
    by("film-kind").disabled = this.first !== null;
  }

  /** A film of the last seconds. */
  last() {
    const { step, world } = this.player.state;
    this.#ask(by("film-kind").value, step - Math.round(LAST_SECONDS * world.fps) + 1);
  }

  /** Another branch began: what was recorded ended with its own. */
  end() {
    if (this.first === null) return;
    this.first = null;
    by("film-kind").disabled = false;
    this.tell("The recording ended: another game began.", "fault");
  }

  /** The branch was cut after a step, or begun anew (step 0). */
  cut(step) {
    if (this.first !== null) this.first = Math.min(this.first, step);
  }

  /** Whether the film has become as long as the server makes them. */
  get full() {
    return this.first !== null && this.player.state.step - this.first + 1 >= this.#most(this.kind);
  }

  /** A film is ready: fetch, show and save it. */
  async take({ path, kind, frames, bytes }) {
    const answer = await fetch(withToken(path)).catch(() => null);
    const file = answer?.ok ? await answer.blob().catch(() => null) : null;
    if (file?.size !== bytes) return this.tell("The film could not be fetched. Ask for it again.", "fault");
    this.made += 1;
    const name = `${this.player.state.world.name}-${this.made}.${kind}`;
    const address = URL.createObjectURL(file);
    by("films").prepend(this.#card(name, address, kind, frames, file.size));
    by("films").querySelector("a").click();
    this.tell(`${name} is saved: ${frames} frames.`);
  }

  #ask(kind, first) {
    const { step } = this.player.state;
    const from = Math.max(first, step - this.#most(kind) + 1, 0);
    this.player.film(kind, from, step, by("film-overlay").checked);
    this.tell("The film is being made.");
  }

  /** Frames that a film of a kind can have. */
  #most(kind) {
    const { film_frames: film, gif_frames: gif } = this.player.state.limits;
    return kind === "gif" ? gif : film;
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
