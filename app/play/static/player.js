// The player's side of a game: what the server said last, what is asked of it, and how a game goes on after a restart.

import { Branch } from "./branch.js";
import { Connection } from "./connection.js";
import { History } from "./history.js";
import { Stats } from "./stats.js";

const ASK_CODES_EVERY = 2000; // ms, while it plays: what a restart goes on from

/** Pauses that any action ends, and what is said of them. */
const PAUSES = {
  rewind: null, // the picture's badge says it
  hidden: "Paused while the page was hidden.",
  replay: "The replay ends here. Hold an action to play on.",
  comparison: "The true continuation ends here. Hold an action to play on.",
};

/**
 * Handlers: `change()` after every change of `state`; `frame(Frame)`; `choose(refused)`: nothing is played yet, a first
 * game is wanted, `refused` where the last choice was; `started()`: a new branch; `film(message)`; `tell(text, kind)`.
 */
export class Player {
  constructor(handlers) {
    this.handlers = handlers;
    this.connection = new Connection({
      message: (message) => this.#take(message),
      frame: (frame) => this.#frame(frame),
      down: (how) => this.#down(how),
    });
    this.stats = new Stats();
    this.history = new History();
    this.branch = new Branch();
    this.files = new Map(); // of uploaded prompts by ID, to be sent again after a restart
    this.uploading = null; // {file, then}: the upload that the server works on
    this.starts = []; // messages that the server has not answered yet
    this.waitingForCodes = [];
    this.asking = false; // for codes: one question at a time, so that none are told twice
    this.askMore = false; // another question follows the answer
    this.waitingForPictures = []; // resolve functions, in the order of the questions
    this.stamp = 0; // of the last hold
    this.rewinding = false; // until the frame there has come
    this.state = {
      link: "connecting", world: null, limits: null, prompts: [], prompt: null, seed: 0, truth: 0, comparing: false,
      playing: false, speed: 1, rest: null, own: {}, settings: {}, led: 0, end: 0, held: null, code: null, step: 0,
      oldest: 0, busy: null, paused: null, reason: "", delay: null, closed: null,
    };
  }

  connect() {
    this.#set({ link: "connecting" });
    this.connection.open();
  }

  /** Begin anew from a prompt; whether the server was asked. */
  start(prompt, { seed = 0, actions = [], jump = false, compare = false, settings = {}, marks = [], on = true } = {}) {
    const message = { type: "start", prompt, seed, actions, jump, compare, settings, marks };
    if (!this.connection.send(message)) {
      if (this.connection.live) this.handlers.tell("This has too many changes to be played again.", "fault");
      return false;
    }
    this.starts.push(message);
    this.connection.send({ type: "play", on });
    this.stats.forget();
    this.#set({ paused: null, playing: on, busy: jump ? { what: "jump", done: 0, total: total(actions) } : null });
    return true;
  }

  /** The code that is held from now on; null for none. A key ends a pause that has a reason of the page's. */
  hold(code) {
    if (code === this.state.held || this.state.prompt === null || this.state.busy?.what === "jump") return;
    const stamp = ++this.stamp;
    this.connection.send({ type: "hold", code, stamp });
    if (code !== null && this.state.paused) this.play(true); // after the key, so that the first step knows it
    if (code !== null && this.state.playing) this.stats.pressed(stamp, performance.now());
    this.#set({ held: code, comparing: false });
  }

  play(on, reason = null) {
    this.connection.send({ type: "play", on });
    if (!on) {
      this.stats.forget();
      this.#askCodes();
    }
    this.#set({ playing: on, paused: on ? null : reason });
    if (PAUSES[reason]) this.handlers.tell(PAUSES[reason]);
  }

  once() {
    if (this.state.playing) this.play(false);
    this.connection.send({ type: "step", code: this.state.held });
    this.#set({ paused: null });
  }

  rewind(step) {
    this.rewinding = this.connection.send({ type: "rewind", step });
    this.stats.forget();
    this.#set({ paused: "rewind", playing: false, comparing: false });
  }

  speed(factor) {
    this.connection.send({ type: "speed", factor });
  }

  rest(code) {
    this.connection.send({ type: "rest", code });
  }

  /** Settings that are the player's, not the world's own; the others are left out or null. */
  set(settings) {
    this.connection.send({ type: "settings", ...settings });
    this.#askCodes();
  }

  snap() {
    this.snapping = this.connection.send({ type: "snap" });
  }

  film(kind, first, last, overlay) {
    this.connection.send({ type: "film", kind, first, last, overlay });
  }

  drop(prompt) {
    if (this.files.delete(prompt)) this.connection.send({ type: "drop", prompt }); // not one that a link brought
    this.#set({ prompts: this.state.prompts.filter((one) => one.id !== prompt) });
  }

  /** Send a file as a prompt; `then(id)` follows when it is one. */
  upload(file, then, again = false) {
    const limit = this.state.limits?.upload_bytes ?? 0;
    if (this.uploading) return this.handlers.tell("One file at a time: the one before is still being read.", "fault");
    if (file.size > limit) {
      const text = `${file.name || "The file"} has ${mega(file.size)} MB; the server takes ${mega(limit)} MB.`;
      return this.handlers.tell(text, "fault");
    }
    if (!this.connection.sendFile(file)) return this.handlers.tell("There is no connection to the server.", "fault");
    this.uploading = { file, then, again };
    return this.#set({ busy: { what: "upload", done: 0, total: 1 } });
  }

  /** The whole of this branch, exact. @returns {Promise<{prompt, seed, step, actions, settings, marks}>} */
  codes() {
    return new Promise((resolve, reject) => {
      if (!this.connection.live) return reject(new Error("There is no connection to the server."));
      this.waitingForCodes.push(resolve);
      return this.#askCodes();
    });
  }

  /** The picture of a past step from the server. @returns {Promise<Uint8Array|null>} null where it has none */
  picture(step) {
    return new Promise((resolve) => {
      if (!this.connection.send({ type: "picture", step })) resolve(null);
      else this.waitingForPictures.push(resolve);
    });
  }

  /** A frame was drawn. */
  drew(frame, now) {
    this.drawn = frame.number;
    this.connection.send({ type: "ack", number: frame.number });
    this.stats.drew(frame, now);
  }

  /** Settings that differ from the world's own, as `start` takes them. */
  changedSettings() {
    return changed(this.state.settings, this.state.own);
  }

  #frame(frame) {
    const { state } = this;
    if (frame.cut) {
      this.rewinding = false;
      this.branch.cut(frame.step);
      this.history.cut(frame.step);
      if (state.busy?.what === "jump") this.#set({ busy: null });
      if (state.held !== null && state.paused) this.play(true); // a key came before the rewind was done
      this.#askCodes();
    }
    if (frame.snapped && this.snapping) {
      this.snapping = false;
      this.handlers.tell("The world goes on from this picture as the encoder sees it.");
    }
    this.branch.record(frame.step, frame.code);
    this.history.add(frame.step, frame.picture);
    state.step = frame.step;
    state.code = frame.code;
    state.oldest = Math.max(state.oldest, frame.step - state.limits.kept_steps); // as the server does
    this.history.forget(state.oldest);
    this.received = frame.number;
    this.handlers.frame(frame);
    const now = performance.now();
    if (!state.playing || frame.snapped || now - (this.askedCodes ?? 0) > ASK_CODES_EVERY) this.#askCodes();
  }

  /** What the server knows of the branch and this page does not; not while it may stand on another branch. */
  #askCodes() {
    if (this.starts.length || this.rewinding) return;
    if (this.asking) this.askMore = true;
    else this.asking = this.connection.send({ type: "codes", after: this.branch.exact });
    this.askedCodes = performance.now();
  }

  #take(message) {
    const { type, ...fields } = message;
    if (type === "hello") this.#hello(fields);
    else if (type === "started") this.#started(fields);
    else if (type === "state") this.#state(fields);
    else if (type === "codes") this.#codes(fields);
    else if (type === "picture") this.waitingForPictures.shift()?.(bytesOf(fields.jpeg));
    else if (type === "prompt") this.#prompt(fields);
    else if (type === "busy") this.#set({ busy: fields });
    else if (type === "film") this.#set({ busy: null }, () => this.handlers.film(fields));
    else if (type === "refused") this.#refused(fields);
  }

  #hello({ world, rest, settings, prompts, limits }) {
    const own = Object.fromEntries(Object.entries(settings).filter(([, range]) => range !== null));
    const before = this.state.prompt === null ? null : { ...this.state };
    const kept = this.state.prompts.filter(({ id }) => this.files.has(id));
    const same = before?.world.name === world.name && before.world.codes.length === world.codes.length;
    this.#set({ link: "live", world, rest, own, prompts, limits, busy: null, settings: values(own), held: null });
    this.stamp = 0;
    if (before && same) {
      this.#again(before, kept);
    } else {
      this.files.clear();
      this.state.prompt = null;
      this.handlers.choose(false);
    }
  }

  /** After a restart of the server: its uploads are sent again, then the same game begins at the step where it was. */
  #again(before, kept) {
    const [next, ...others] = kept;
    if (next) return this.upload(this.files.get(next.id), () => this.#again(before, others), true);
    const { prompt, seed, playing: on, paused, comparing: compare } = before;
    const { settings, marks, step } = this.branch;
    if (before.rest !== this.state.rest) this.rest(before.rest);
    if (before.speed !== 1) this.speed(before.speed);
    const picture = this.history.at(before.step);
    if (step > this.state.limits.replay_steps && picture) return this.#afresh(before, picture);
    const actions = compare ? [] : this.branch.runs();
    const jump = actions.length > 0;
    const again = { seed, actions, jump, compare, settings, marks: jump ? marks : [], on };
    if (!this.start(prompt, again) && picture) return this.#afresh(before, picture);
    this.handlers.tell("Connected again.");
    return this.#set({ paused });
  }

  /** A game that cannot be played again goes on from its last picture. */
  #afresh(before, picture) {
    const file = new File([picture], "where you were.jpg", { type: "image/jpeg" });
    const settings = changed(before.settings, this.state.own);
    const begin = (id) => this.start(id ?? before.prompt, { seed: before.seed, settings, on: before.playing });
    this.handlers.tell(`Connected again. ${before.step} steps are too many to be played again: on from the last picture.`);
    return this.upload(file, begin, true);
  }

  #started({ prompt, name, uploaded, seed, frames, truth }) {
    const { jump, compare, actions } = this.starts.shift();
    this.rewinding = false;
    this.received = null; // nothing of this branch
    const { prompts } = this.state;
    if (!prompts.some(({ id }) => id === prompt)) prompts.push({ id: prompt, name, frames, uploaded });
    this.#set({ prompt, seed, truth, comparing: compare, led: 0, end: compare ? truth : total(actions), oldest: 0 });
    if (jump) return; // codes are asked for with the frame at its end
    this.branch = new Branch();
    this.history.clear();
    this.#set({ step: 0, code: null });
    this.#askCodes();
    this.handlers.started();
  }

  #state({ parked, ...fields }) {
    const { comparing, own, paused } = this.state;
    const ending = parked && paused === null ? (comparing ? "comparison" : "replay") : paused;
    const settings = { ...values(own), ...known(fields.settings) };
    const playing = fields.playing && !parked;
    this.#set({ ...fields, playing, settings, paused: ending });
    if (ending !== paused) this.handlers.tell(PAUSES[ending]);
  }

  #codes(fields) {
    const learned = this.branch.learn(fields);
    const { prompt, seed, step } = fields;
    const { settings, marks, exact } = this.branch;
    const more = this.askMore || !learned || exact < step;
    this.asking = this.askMore = false;
    if (more) return this.#askCodes();
    const waiting = this.waitingForCodes.splice(0);
    if (waiting.length) {
      const whole = { prompt, seed, step, actions: this.branch.runs(), settings, marks };
      waiting.forEach((resolve) => resolve(whole));
    }
  }

  #prompt({ again, ...prompt }) {
    const { file, then } = this.uploading ?? {};
    this.uploading = null;
    if (file) this.files.set(prompt.id, file);
    if (file?.name && !again) prompt.name = file.name;
    const others = this.state.prompts.filter((one) => one.id !== prompt.id);
    this.#set({ prompts: [...others, prompt], busy: null });
    then?.(prompt.id);
  }

  #refused({ what, reason }) {
    if (what === "upload") {
      const { then, again } = this.uploading ?? {};
      this.uploading = null;
      if (again) then?.(null); // after a restart: the game goes on without this file
    }
    if (what === "start") this.starts.shift();
    if (what === "rewind") this.rewinding = false;
    if (what === "codes") this.asking = this.askMore = false;
    else if (this.waitingForCodes.length) this.#askCodes(); // what was refused may have held them up
    if (what === "picture") this.waitingForPictures.shift()?.(null);
    this.#set({ busy: null });
    this.handlers.tell(reason, "fault");
    if (what === "start" && this.state.prompt === null) this.handlers.choose(true);
  }

  #down({ code, reason, delay }) {
    this.uploading = null;
    this.rewinding = false;
    this.stats.forget();
    this.waitingForCodes = [];
    this.asking = this.askMore = false;
    this.waitingForPictures.splice(0).forEach((resolve) => resolve(null));
    this.starts = [];
    this.#set({ link: delay === null ? "stopped" : "down", held: null, busy: null, reason, delay, closed: code });
  }

  #set(fields, then) {
    Object.assign(this.state, fields);
    this.handlers.change();
    then?.();
  }
}

const total = (actions) => actions.reduce((sum, [, count]) => sum + count, 0);
const mega = (bytes) => (bytes / 2 ** 20).toFixed(1);
const bytesOf = (base64) => Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
const changed = (settings, own) =>
  Object.fromEntries(Object.entries(settings).filter(([name, value]) => own[name] && value !== own[name].value));
const values = (own) => Object.fromEntries(Object.entries(own).map(([name, range]) => [name, range.value]));
const known = (settings) => Object.fromEntries(Object.entries(settings ?? {}).filter(([, value]) => value !== null));
