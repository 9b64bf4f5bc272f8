// The past of this branch, as far as the server keeps it, as a strip of thumbnails over a band of its actions. Scrubbing
// shows the past at once; letting go branches from there.

import { decode } from "./frames.js";
import { colourOf } from "./panel.js";

const THUMB = 48; // pixels of a side
const BAND = 6; // pixels of the band of actions
const REDRAW = 300; // ms between redrawings while frames come in
const by = (id) => document.getElementById(id);

export class Timeline {
  /**
   * @param {import("./player.js").Player} player
   * @param {import("./frames.js").Screen} screen
   */
  constructor(player, screen) {
    Object.assign(this, { player, screen, thumbs: new Map(), drawnAt: 0, marked: null });
    Object.assign(this, { scrubbing: false, byKey: false, resume: false, wanted: null, asking: false });
    const scrub = by("scrub");
    scrub.addEventListener("keydown", (event) => this.#key(event));
    scrub.addEventListener("pointerdown", () => (this.byKey = false));
    scrub.addEventListener("input", () => this.#look(Number(scrub.value)));
    scrub.addEventListener("change", () => !this.byKey && this.#branch());
    scrub.addEventListener("blur", () => this.#leave());
    new ResizeObserver(() => this.draw()).observe(by("strip"));
  }

  /** Frames came or went. */
  update() {
    const now = performance.now();
    if (now - this.drawnAt > REDRAW) this.draw();
    else this.later ??= setTimeout(() => this.draw(), REDRAW);
  }

  /** Another branch: its thumbnails are others. */
  clear() {
    this.scrubbing = false;
    this.#dropThumbs(() => true);
    this.draw();
  }

  /** The branch was cut after a step. */
  cut(step) {
    this.#dropThumbs((known) => known > step);
    this.draw();
  }

  /** Steps that are being recorded, null for none. */
  mark(first) {
    this.marked = first;
    this.draw();
  }

  draw() {
    clearTimeout(this.later);
    this.later = undefined;
    this.drawnAt = performance.now();
    const strip = by("strip");
    const width = strip.clientWidth;
    if (!width) return;
    const { step: last, oldest } = this.player.state;
    const places = Math.max(1, Math.floor(width / THUMB));
    const span = Math.max(last - oldest, places - 1, 1);
    const scale = (width - THUMB) / span; // pixels of a step
    const stride = 2 ** Math.max(0, Math.floor(Math.log2(THUMB / Math.max(scale, 0.001)))); // they overlap: no gaps
    strip.width = width;
    const pen = strip.getContext("2d");
    pen.imageSmoothingEnabled = false;
    const first = oldest - (oldest % stride);
    this.#dropThumbs((step) => step % stride || step < first);
    for (let step = first; step <= last; step += stride) this.#thumb(pen, step, (step - oldest) * scale);
    const right = (last - oldest) * scale;
    if (!this.scrubbing) pen.drawImage(this.screen.world, Math.round(right), 0, THUMB, THUMB); // the newest
    this.#drawBand(pen, right, scale);
    const scrub = by("scrub");
    scrub.max = oldest + span;
    scrub.min = oldest;
    if (!this.scrubbing) scrub.value = last;
    this.#label(this.scrubbing ? Number(scrub.value) : last);
  }

  #thumb(pen, step, x) {
    const known = this.thumbs.get(step);
    if (known instanceof ImageBitmap) {
      pen.drawImage(known, Math.round(x), 0, THUMB, THUMB);
    } else if (!known) {
      const { history, state } = this.player;
      const bytes = history.before(Math.max(step, state.oldest), state.oldest);
      if (!bytes) return;
      this.thumbs.set(step, "coming");
      decode(bytes, { resizeWidth: THUMB, resizeHeight: THUMB, resizeQuality: "medium" }).then((bitmap) => {
        if (this.thumbs.get(step) !== "coming") return bitmap.close();
        this.thumbs.set(step, bitmap);
        return this.draw();
      });
    }
  }

  /** The codes up to a place on the strip: a look at each pixel, however many steps there are; what is recorded. */
  #drawBand(pen, right, scale) {
    const { state, branch } = this.player;
    const count = state.world?.codes.length ?? 1;
    let [from, drawn] = [0, undefined];
    for (let x = 0; x <= right; x += 1) {
      const code = x + 1 > right ? undefined : branch.codes[state.oldest + Math.floor(x / scale)];
      if (code === drawn) continue;
      if (drawn !== undefined) {
        pen.fillStyle = colourOf(drawn, count);
        pen.fillRect(from + THUMB / 2, THUMB, x - from, BAND);
      }
      [from, drawn] = [x, code];
    }
    if (this.marked === null) return;
    pen.strokeStyle = "#ff4d5e";
    pen.lineWidth = 3;
    const left = Math.max(0, this.marked - state.oldest) * scale;
    pen.strokeRect(left + 1.5, 1.5, right - left + THUMB - 3, THUMB - 3);
  }

  #look(step) {
    const { state, history } = this.player;
    const past = Math.max(state.oldest, Math.min(step, state.step));
    by("scrub").value = past;
    if (!this.scrubbing && state.playing) {
      this.resume = true;
      this.player.play(false);
    }
    this.scrubbing = true;
    const exact = history.at(past);
    const near = exact ?? history.before(past, state.oldest); // shown until the server's picture is here
    if (near) this.screen.lookAt(near);
    this.wanted = exact ? null : past;
    this.#fetch();
    this.#label(past);
  }

  /** Ask for the picture that this page has not: one at a time, the newest that is wanted. */
  async #fetch() {
    if (this.asking) return;
    this.asking = true;
    while (this.wanted !== null) {
      const step = this.wanted;
      this.wanted = null;
      const bytes = await this.player.picture(step);
      if (bytes && this.scrubbing && Number(by("scrub").value) === step) this.screen.lookAt(bytes);
    }
    this.asking = false;
  }

  #branch() {
    if (!this.scrubbing) return;
    this.scrubbing = false;
    this.resume = false;
    this.wanted = null;
    const step = Math.max(this.player.state.oldest, Number(by("scrub").value));
    if (step < this.player.state.step) this.player.rewind(step);
    else this.player.play(false, "rewind");
    this.screen.looking = 0; // the picture stays until the frame of the rewind comes
  }

  #leave() {
    if (!this.scrubbing) return;
    this.scrubbing = false;
    this.wanted = null;
    this.screen.present();
    if (this.resume) this.player.play(true);
    this.resume = false;
    this.draw();
  }

  #key(event) {
    this.byKey = true;
    if (event.key === "Enter") this.#branch();
    else if (event.key === "Escape") this.#leave();
  }

  #label(step) {
    const { world, branch } = { world: this.player.state.world, branch: this.player.branch };
    const seconds = world ? (step / world.fps).toFixed(1) : "0";
    const code = step > 0 ? branch.codes[step - 1] : undefined;
    const action = code === undefined || !world ? "" : `, ${world.codes[code]?.name}`;
    const text = `step ${step} (${seconds} s)${action}`;
    if (by("scrub-now").textContent !== text) by("scrub-now").textContent = text;
    by("scrub").setAttribute("aria-valuetext", text);
  }

  #dropThumbs(which) {
    for (const [step, bitmap] of this.thumbs) {
      if (!which(step)) continue;
      if (bitmap instanceof ImageBitmap) bitmap.close();
      this.thumbs.delete(step);
    }
  }
}
