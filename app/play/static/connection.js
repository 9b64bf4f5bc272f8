// The socket to the server (docs/play.md, protocol 2): messages in and out, frames parsed, connected again when lost.

const HEADER = 32; // bytes
const PROTOCOL = 2;
const NONE = 65535; // no code
const LARGEST_TEXT = 65536; // bytes of a message that the server takes
const FIRST_DELAY = 500; // ms before the first new attempt; doubled each time
const LONGEST_DELAY = 8000;
const PING_EVERY = 15000; // ms

/**
 * @typedef {{prompt: boolean, cut: boolean, snapped: boolean, code: number|null, step: number, number: number,
 *   stamp: number, stepMicros: number, sendMicros: number, picture: Uint8Array, truth: Uint8Array|null}} Frame
 */

/**
 * A binary message as a frame.
 * @param {ArrayBuffer} buffer
 * @returns {Frame}
 */
export function parseFrame(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER || view.getUint8(0) !== PROTOCOL) throw new Error("a frame of another protocol");
  const flags = view.getUint8(1);
  const code = view.getUint16(2, true);
  const first = view.getUint32(24, true);
  const second = view.getUint32(28, true);
  if (HEADER + first + second !== buffer.byteLength) throw new Error("a frame of the wrong length");
  return {
    prompt: (flags & 1) !== 0,
    cut: (flags & 4) !== 0,
    snapped: (flags & 8) !== 0,
    code: code === NONE ? null : code,
    step: view.getUint32(4, true),
    number: view.getUint32(8, true),
    stamp: view.getUint32(12, true),
    stepMicros: view.getUint32(16, true),
    sendMicros: view.getUint32(20, true),
    picture: new Uint8Array(buffer, HEADER, first),
    truth: second ? new Uint8Array(buffer, HEADER + first, second) : null,
  };
}

/** The token of the page's address, added to a path of this server. */
export function withToken(path) {
  const token = new URLSearchParams(location.search).get("token");
  return token === null ? path : `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
}

/**
 * Handlers: `message(object)`, `frame(Frame)`, `up()`, `down({code, reason, delay})`, where `delay` is the time in ms
 * until the next attempt, or null where the server wants none.
 */
export class Connection {
  constructor(handlers) {
    this.handlers = handlers;
    this.socket = null;
    this.attempts = 0;
    this.timer = null;
    this.roundTrip = null; // ms
  }

  open() {
    clearTimeout(this.timer);
    if (this.socket && this.socket.readyState <= WebSocket.OPEN) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${withToken("/play")}`);
    socket.binaryType = "arraybuffer";
    let opened = false;
    socket.onopen = () => (opened = true);
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(socket, event, opened);
    this.socket = socket;
  }

  get live() {
    return this.socket !== null && this.socket.readyState === WebSocket.OPEN;
  }

  /** Send an object; whether it went. */
  send(message) {
    const text = JSON.stringify(message);
    if (!this.live || new TextEncoder().encode(text).length > LARGEST_TEXT) return false;
    this.socket.send(text);
    return true;
  }

  /** Send a file; whether it went. */
  sendFile(blob) {
    if (this.live) this.socket.send(blob);
    return this.live;
  }

  #receive(data) {
    if (typeof data !== "string") {
      this.handlers.frame(parseFrame(data));
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "pong") {
      this.roundTrip = performance.now() - message.time;
      return;
    }
    if (message.type === "hello" && message.protocol !== PROTOCOL) {
      this.socket.close();
      this.socket = null;
      this.handlers.down({ code: 1008, reason: "the server is of another version: load this page anew", delay: null });
      return;
    }
    if (message.type === "hello") {
      this.attempts = 0;
      clearInterval(this.pinging);
      this.pinging = setInterval(() => this.send({ type: "ping", time: performance.now() }), PING_EVERY);
    }
    this.handlers.message(message);
  }

  #closed(socket, event, opened) {
    if (socket !== this.socket) return;
    clearInterval(this.pinging);
    this.socket = null;
    const final = event.code === 1008 || event.code === 4000; // a fault of ours, or nobody was here
    const grown = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.attempts);
    const delay = final ? null : grown * (0.9 + 0.2 * Math.random()); // pages do not come back all at once
    this.attempts += 1;
    if (!final) this.timer = setTimeout(() => this.open(), delay);
    this.handlers.down({ code: event.code, reason: event.reason, delay });
    if (!opened) this.#askWhy();
  }

  /** A browser does not tell a refused socket from a server that is gone; the page's own path does. */
  async #askWhy() {
    const answer = await fetch(withToken("/")).catch(() => null);
    if (answer?.status !== 403) return;
    const reason = (await answer.text()).trim();
    if (this.socket) return; // another attempt is under way
    clearTimeout(this.timer);
    this.handlers.down({ code: 1008, reason, delay: null });
  }
}
