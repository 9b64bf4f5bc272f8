// What was played since the prompt: the code of every step, as runs for links and restarts. Frames may leave steps out;
// such a gap takes the code of the frame behind it until the server tells the true list.

export class Branch {
  constructor() {
    this.codes = []; // of steps 1, 2, ...
    this.exact = 0; // the step up to which the server has told them
    this.settings = {}; // that the branch began with
    this.marks = []; // snaps and changes of settings on the way, as the server tells them
  }

  get step() {
    return this.codes.length;
  }

  /** A frame came: its step was led by this code. */
  record(step, code) {
    if (code === null) return;
    while (this.step < step) this.codes.push(code);
  }

  /** Forget what came after a step. */
  cut(step) {
    this.codes.length = Math.min(this.step, step);
    this.exact = Math.min(this.exact, step);
    this.marks = this.marks.filter((mark) => mark.step <= step);
  }

  /**
   * The server's list after a step, up to which the codes here are exact; what is newer here stays.
   * @returns {boolean} false where that step lies beyond what is exact here: nothing is learned
   */
  learn({ after, actions, settings, marks }) {
    if (after > this.exact) return false;
    let step = after;
    for (const [code, count] of actions) for (const end = step + count; step < end; step += 1) this.codes[step] = code;
    this.exact = step;
    this.settings = settings;
    this.marks = [...this.marks.filter((mark) => mark.step < after), ...marks];
    return true;
  }

  /** @returns {[number, number][]} code and count, in order */
  runs() {
    const runs = [];
    for (const code of this.codes) {
      if (runs.length && runs.at(-1)[0] === code) runs.at(-1)[1] += 1;
      else runs.push([code, 1]);
    }
    return runs;
  }
}
