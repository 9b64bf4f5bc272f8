// What was played since the prompt: the code of every step, as runs for links and restarts. Frames may leave steps out;
// such a gap takes the code of the frame behind it until the server tells the true list.

export class Branch {
  constructor() {
    this.codes = []; // of steps 1, 2, ...
    this.guessed = false; // whether a gap was filled
    this.pure = true; // whether prompt, seed, settings and codes say all that happened
  }

  get step() {
    return this.codes.length;
  }

  /** A frame came: its step was led by this code. */
  record(step, code) {
    if (step <= this.step || code === null) return;
    if (step > this.step + 1) this.guessed = true;
    while (this.step < step) this.codes.push(code);
  }

  /** Forget what came after a step. */
  cut(step) {
    this.codes.length = Math.min(this.step, step);
  }

  /** The server's list up to its step; what is newer here stays. @param {[number, number][]} runs */
  learn(runs) {
    const exact = runs.flatMap(([code, count]) => new Array(count).fill(code));
    this.codes = [...exact, ...this.codes.slice(exact.length)];
    this.guessed = false;
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
