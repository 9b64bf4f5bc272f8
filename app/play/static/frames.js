// Decodes and draws: the newest frame only, in the browser's own rhythm. What came too late to be drawn is left out.

/** Decode JPEG bytes. @param {Uint8Array} bytes @returns {Promise<ImageBitmap>} */
export function decode(bytes, options = {}) {
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }), options);
}

/**
 * A canvas takes the picture over, without a copy, and its size. It is opaque and has plain corners: the browser then
 * draws nothing behind it, which at each frame would cost more than the picture.
 */
function paint(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("bitmaprenderer", { alpha: false }).transferFromImageBitmap(bitmap); // which closes it
}

export class Screen {
  /**
   * @param {HTMLCanvasElement} world
   * @param {HTMLCanvasElement} truth of a comparison
   * @param {(frame: import("./connection.js").Frame, now: number) => void} drawn called after each frame was drawn
   * @param {(error: Error) => void} failed a picture could not be decoded
   */
  constructor(world, truth, drawn, failed) {
    Object.assign(this, { world, truth, drawn, failed });
    this.waiting = null; // the newest frame that is not being decoded yet
    this.ready = null; // decoded, to be drawn with the next refresh
    this.decoding = false;
    this.looking = 0; // number of the newest look back; 0 while the screen shows the present
    this.last = null; // the newest frame, for returning from a look back
  }

  /** A frame has come. */
  show(frame) {
    this.last = frame;
    this.waiting = frame;
    if (!this.decoding) this.#decodeAll();
  }

  /** Show a past picture in place of the present until `present` is called. */
  async lookAt(bytes) {
    const turn = ++Screen.turns;
    this.looking = turn;
    const bitmap = await decode(bytes);
    requestAnimationFrame(() => (this.looking === turn ? paint(this.world, bitmap) : bitmap.close()));
  }

  /** Back from a look at the past; the newest frame is drawn again. */
  present() {
    if (!this.looking) return;
    this.looking = 0;
    if (this.last) this.show(this.last);
  }

  /** Forget what is under way: another branch begins. */
  clear() {
    this.waiting = null;
    this.looking = 0;
  }

  async #decodeAll() {
    this.decoding = true;
    while (this.waiting) {
      const frame = this.waiting;
      this.waiting = null;
      try {
        const bitmaps = await Promise.all([decode(frame.picture), frame.truth && decode(frame.truth)]);
        this.ready?.bitmaps.forEach((bitmap) => bitmap?.close());
        if (!this.ready) requestAnimationFrame(() => this.#draw());
        this.ready = { frame, bitmaps };
      } catch (error) {
        this.failed(error);
      }
    }
    this.decoding = false;
  }

  #draw() {
    const { frame, bitmaps } = this.ready;
    this.ready = null;
    if (this.looking) {
      bitmaps.forEach((bitmap) => bitmap?.close());
    } else {
      paint(this.world, bitmaps[0]);
      if (bitmaps[1]) paint(this.truth, bitmaps[1]);
    }
    this.drawn(frame, performance.now());
  }
}
Screen.turns = 0;
