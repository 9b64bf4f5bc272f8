// The frames that were received on this branch, as JPEGs by step: what the timeline shows and scrubs through.

const LARGEST = 96 * 2 ** 20; // bytes that are kept; above, every second frame of the older half goes

export class History {
  constructor() {
    this.pictures = new Map(); // step -> Uint8Array, in the order of steps
    this.bytes = 0;
  }

  add(step, bytes) {
    this.#remove(step);
    this.pictures.set(step, bytes);
    this.bytes += bytes.byteLength;
    if (this.bytes > LARGEST) this.#thin();
  }

  /** Forget the frames before a step. */
  forget(step) {
    for (const known of this.pictures.keys()) {
      if (known >= step) return;
      this.#remove(known);
    }
  }

  /** Forget the frames after a step. */
  cut(step) {
    for (const known of [...this.pictures.keys()]) if (known > step) this.#remove(known);
  }

  clear() {
    this.pictures.clear();
    this.bytes = 0;
  }

  /** The picture of a step; null where it was left out or is kept no longer. */
  at(step) {
    return this.pictures.get(step) ?? null;
  }

  /** The picture of the newest kept step from `first` to `step`; null where there is none. */
  before(step, first) {
    for (let known = step; known >= first; known -= 1) if (this.pictures.has(known)) return this.pictures.get(known);
    return null;
  }

  #remove(step) {
    const old = this.pictures.get(step);
    if (!old) return;
    this.bytes -= old.byteLength;
    this.pictures.delete(step);
  }

  #thin() {
    const older = [...this.pictures.keys()].slice(0, Math.floor(this.pictures.size / 2));
    older.forEach((step, place) => place % 2 && this.#remove(step));
  }
}
