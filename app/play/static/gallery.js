// The prompts to start from, and ways to bring one's own: choose a file, drop it anywhere, paste it.

import { withToken } from "./connection.js";

const by = (id) => document.getElementById(id);

export class Gallery {
  /**
   * @param {import("./player.js").Player} player
   * @param {(prompt: string) => void} start
   */
  constructor(player, start) {
    Object.assign(this, { player, start, cards: new Map() });
    by("choose").addEventListener("click", () => by("file").click());
    by("file").addEventListener("change", () => {
      this.#bring(by("file").files);
      by("file").value = ""; // so that the same file can be chosen again
    });
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) this.#bring(event.clipboardData.files);
    });
    this.#listenToDrops();
  }

  /** Cards for the prompts; the one in play is marked. */
  show({ prompts, prompt, busy, limits }) {
    for (const [id, card] of this.cards) {
      if (prompts.some((one) => one.id === id)) continue;
      card.remove();
      this.cards.delete(id);
    }
    for (const one of prompts) {
      if (!this.cards.has(one.id)) {
        this.cards.set(one.id, this.#card(one));
        by("gallery").append(this.cards.get(one.id));
      }
      const current = one.id === prompt;
      this.cards.get(one.id).querySelector(".prompt").setAttribute("aria-current", String(current));
    }
    const reading = busy?.what === "upload";
    by("choose").disabled = reading;
    by("choose").querySelector("small").textContent = reading
      ? "the server reads it…"
      : `choose, drop it anywhere, or paste; the first ${limits?.upload_seconds ?? 10} s of a video`;
  }

  #card({ id, name, frames, uploaded }) {
    const card = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "prompt";
    button.dataset.prompt = id;
    const picture = document.createElement("img");
    picture.src = withToken(`/prompts/${encodeURIComponent(id)}.png`);
    picture.alt = "";
    picture.draggable = false;
    const label = document.createElement("span");
    label.textContent = name;
    const length = document.createElement("small");
    length.textContent = frames === 1 ? "image" : `${frames} frames`;
    button.append(picture, label, length);
    button.addEventListener("click", () => this.start(id));
    card.append(button);
    if (uploaded) {
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "remove";
      remove.textContent = "×";
      remove.setAttribute("aria-label", `Remove ${name}`);
      remove.addEventListener("click", () => this.player.drop(id));
      card.append(remove);
    }
    return card;
  }

  #bring(files) {
    const [file] = files;
    if (file) this.player.upload(file, (id) => this.start(id));
  }

  #listenToDrops() {
    let depth = 0; // of elements that were entered: the veil goes when the last one is left
    const brings = (event) => event.dataTransfer?.types.includes("Files");
    const veil = (change) => {
      depth = Math.max(0, depth + change);
      by("drop").hidden = depth === 0;
    };
    document.addEventListener("dragenter", (event) => brings(event) && veil(1));
    document.addEventListener("dragleave", (event) => brings(event) && veil(-1));
    document.addEventListener("dragover", (event) => brings(event) && event.preventDefault());
    document.addEventListener("drop", (event) => {
      if (!brings(event)) return;
      event.preventDefault();
      veil(-depth);
      this.#bring(event.dataTransfer.files);
    });
  }
}
