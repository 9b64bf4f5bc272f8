// What play feels like in numbers: frames a second that were drawn, and the time from a key to the picture that knows
// it.

const SPAN = 2000; // ms over which frames are counted
const KEPT = 20; // latencies of which the median is shown
const STALE = 2000; // ms after which an unanswered key is not counted: nothing moved

const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? null;
const ascending = (values) => [...values].sort((a, b) => a - b);

export class Stats {
  constructor() {
    this.draws = []; // times of the last draws, ms
    this.shown = 0;
    this.pending = []; // [stamp, time of the key]
    this.latencies = []; // ms, of the whole visit, newest last
    this.taken = []; // [ms of the step, ms until it was sent] of the last frames
  }

  /** A key went to the server. */
  pressed(stamp, now) {
    this.pending.push([stamp, now]);
  }

  /** Keys that nothing will answer: play was paused or began anew. */
  forget() {
    this.pending = [];
  }

  /** A frame was drawn. */
  drew({ stamp, stepMicros, sendMicros }, now) {
    this.shown += 1;
    if (stepMicros) this.taken.push([stepMicros / 1000, sendMicros / 1000]);
    if (this.taken.length > KEPT) this.taken.shift();
    this.draws.push(now);
    while (this.draws[0] < now - SPAN) this.draws.shift();
    while (this.pending.length && this.pending[0][0] <= stamp) {
      const latency = now - this.pending.shift()[1];
      if (latency < STALE) this.latencies.push(latency);
    }
    if (this.latencies.length > 5000) this.latencies.splice(0, 2500);
  }

  /** Frames a second over the last two seconds; 0 where nothing is drawn. */
  fps(now = performance.now()) {
    const recent = this.draws.filter((time) => time > now - SPAN);
    return recent.length < 2 ? 0 : ((recent.length - 1) * 1000) / (recent.at(-1) - recent[0]);
  }

  /** @returns {{fps: number, shown: number, presses: number, latency_ms: number|null, latency_p95_ms: number|null,
   *   step_ms: number|null, sent_ms: number|null}} medians but for the count, the rate and the 95th percentile */
  read() {
    const recent = ascending(this.latencies.slice(-KEPT));
    return {
      fps: this.fps(),
      shown: this.shown,
      presses: this.latencies.length,
      latency_ms: at(recent, 0.5),
      latency_p95_ms: at(ascending(this.latencies), 0.95),
      step_ms: at(ascending(this.taken.map(([step]) => step)), 0.5),
      sent_ms: at(ascending(this.taken.map(([, sent]) => sent)), 0.5),
    };
  }
}
