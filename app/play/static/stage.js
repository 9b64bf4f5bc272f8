// The theatre: the state of the game on and around the picture, the figures, and the light that the picture throws.

import { announce } from "./toast.js";
import { capOf } from "./panel.js";

const GLOW_EVERY = 400; // ms
const HINTED = 4; // actions that the hint names
const by = (id) => document.getElementById(id);
const press = (id, on) => by(id).setAttribute("aria-pressed", String(on));

export class Stage {
  /** @param {import("./player.js").Player} player */
  constructor(player) {
    this.player = player;
    this.lit = 0;
    this.recording = null;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
  }

  /** Whether the game takes commands; a jump would end where it is disturbed. */
  ready({ link, prompt, busy }) {
    return link === "live" && prompt !== null && busy?.what !== "jump";
  }

  /** Everything that follows from the state. @param {number|null} recording the first step of a film under way */
  show(state, recording) {
    const { world, link, playing, paused, comparing, truth, prompt } = state;
    this.recording = recording;
    by("link-state").dataset.state = link;
    by("link-state").textContent = this.#link(state);
    if (world) {
      by("title").textContent = world.name;
      document.title = `${world.name} – Genie`;
      const millions = (world.parameters / 1e6).toFixed(1);
      const about = [`${world.size} px`, `${world.fps.toFixed(1)} frames/s`, `${millions} M parameters`];
      by("about").textContent = [...about, `remembers ${world.window} frames`].join(", ");
    }
    by("play").dataset.playing = playing;
    press("play", !playing);
    by("play-label").textContent = playing ? "Pause" : "Play";
    press("record", recording !== null);
    by("record-label").textContent = recording === null ? "Record" : "Stop";
    const clip = state.prompts.find(({ id }) => id === prompt)?.frames >= 4;
    const ready = this.ready(state);
    for (const id of ["play", "back", "once", "reset", "snap", "record", "last", "share"]) by(id).disabled = !ready;
    by("compare").disabled = !ready || !(clip || comparing);
    const beside = comparing && truth > 0;
    press("compare", beside);
    by("truth-figure").hidden = by("world-caption").hidden = !beside;
    by("resume").hidden = link !== "stopped" && !(ready && paused === "hidden");
    by("resume").querySelector("span").textContent = link === "stopped" ? "Connect again" : "Go on";
    if (state.held !== null || beside || link === "stopped") by("hint").hidden = true; // it would lie on the captions
    this.#badge(link === "live" ? this.#news(state, recording) : link === "connecting" ? "" : this.#link(state));
    by("badge").classList.toggle("recording", link === "live" && recording !== null);
    announce(this.#words(state, recording));
  }

  /** Which keys to press, until the first one is, or two pictures stand side by side. */
  hint() {
    const { world, rest } = this.player.state;
    const order = world.codes.map((_, code) => code).filter((code) => code !== rest);
    const named = (code) => (/^action \d+$/.test(world.codes[code].name) ? 0 : 1); // by a person or by labels
    order.sort((a, b) => named(b) - named(a) || world.codes[b].usage - world.codes[a].usage);
    const parts = order.slice(0, HINTED).map((code) => {
      const box = document.createElement("span");
      const cap = document.createElement("kbd");
      cap.textContent = capOf(world.codes[code].key);
      box.append(cap, ` ${world.codes[code].name}`);
      return box;
    });
    const title = document.createElement("strong");
    title.textContent = "Hold a key or a button to play";
    const row = document.createElement("div");
    row.append(...parts);
    by("hint").replaceChildren(title, row);
    by("hint").hidden = false;
  }

  /** Numbers: those in the header, and how many steps are to go. */
  figures({ fps, latency_ms: latency, step_ms: step, sent_ms: sent }) {
    const { state } = this.player;
    const text = { fps: fps ? fps.toFixed(1) : "–", latency: latency === null ? "–" : `${Math.round(latency)} ms` };
    text.step = String(state.step);
    const took = step === null ? "" : `; a step takes ${step.toFixed(1)} ms, ${sent.toFixed(1)} until it is sent`;
    by("fps").parentElement.title = `Frames a second that were drawn${took}`;
    for (const [id, value] of Object.entries(text)) if (by(id).textContent !== value) by(id).textContent = value;
    if (state.link === "live") this.#badge(this.#news(state, this.recording));
  }

  /** The light around the picture follows its colours, a few times a second. */
  glow(now) {
    if (now - this.lit < GLOW_EVERY || this.still.matches) return;
    this.lit = now;
    by("glow").getContext("2d").drawImage(by("world"), 0, 0, 8, 8);
  }

  #badge(text) {
    if (by("badge").textContent !== text) by("badge").textContent = text;
    by("badge").hidden = text === "";
  }

  /** What the game is about, where it is more than playing. */
  #news({ led, end, busy, comparing, paused, playing, rest, held, step }, recording) {
    if (busy?.what === "upload") return "Reading the file…";
    if (busy?.what === "jump") return `Playing up to step ${busy.total}: ${busy.done}…`;
    if (busy?.what === "film") return "Making the film…";
    if (recording !== null) return "● Recording";
    const left = end - step; // `led` is told with changes alone
    const steps = left === 1 ? "1 step" : `${left} steps`;
    if (led > 0 && left > 0) return `${comparing ? "Comparing" : "Replaying"}: ${steps} to go`;
    if (paused === "rewind") return `Step ${step}: hold an action to branch`;
    return playing && rest === null && held === null && step > 0 ? "Waiting for you" : "";
  }

  #link({ link, reason, closed, delay }) {
    if (link === "live") return "live";
    if (link === "connecting") return "connecting";
    if (link === "down" && closed === 1013) return "all places are taken; trying again";
    if (link === "down") return `server lost; trying again in ${Math.ceil(delay / 1000)} s`;
    return closed === 4000 ? "left alone for long: press a key or the button" : `closed: ${reason || "the server refused"}`;
  }

  #words(state, recording) {
    if (state.link !== "live") return this.#link(state);
    if (state.prompt === null) return "";
    const film = recording === null ? "" : ", recording";
    if (state.led > 0) return (state.comparing ? "Comparing" : "Replaying") + film;
    return (state.playing ? "Playing" : "Paused") + film;
  }
}
