// The page of `genie play`: makes the parts, and passes on what one has to tell the others.

import { copyLink, parseHash } from "./share.js";
import { Films } from "./films.js";
import { Gallery } from "./gallery.js";
import { ActionPanel } from "./panel.js";
import { Player } from "./player.js";
import { Screen } from "./frames.js";
import { SettingsPanel } from "./settings.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { Holds, keymap, listen } from "./keys.js";
import { commandsOf, fillHelp, obey } from "./help.js";
import { listenToGamepads } from "./gamepad.js";
import { setUpTheme } from "./theme.js";
import { toast } from "./toast.js";

const by = (id) => document.getElementById(id);
const FIGURES_EVERY = 250; // ms
const VISITED = "genie.visited";

let map = new Map(); // keys of the world
let worldShown = null; // the world that the controls were built for

const player = new Player({ change, frame, choose, started, tell: toast, film: (message) => films.take(message) });
const holds = new Holds((code) => player.hold(code));
const screen = new Screen(by("world"), by("truth"), drawn, () => toast("A picture could not be read.", "fault"));
const stage = new Stage(player);
const panel = new ActionPanel(by("actions"), holds);
const settings = new SettingsPanel(player);
const gallery = new Gallery(player, (prompt) => begin({ prompt, seed: freshSeed() }));
const timeline = new Timeline(player, screen);
const films = new Films(player, toast);

const deeds = {
  pause: () => player.play(!player.state.playing),
  once: () => player.once(),
  back: () => player.state.step > 0 && !player.rewinding && player.rewind(player.state.step - 1), // one at a time
  reset: () => begin({ prompt: player.state.prompt }),
  snap: () => player.snap(),
  compare: () => begin({ prompt: player.state.prompt, compare: !player.state.comparing }),
  record: () => record(),
  last: () => films.last(),
  share: async () => copyLink(await player.codes(), player.state.limits.replay_steps, toast),
  full: () => (document.fullscreenElement ? document.exitFullscreen() : by("stage").requestFullscreen?.()),
  slower: () => player.speed(Math.max(0.125, player.state.speed / Math.SQRT2)),
  faster: () => player.speed(Math.min(8, player.state.speed * Math.SQRT2)),
  help: () => (by("help").open ? by("help").close() : by("help").showModal()),
};
const commands = commandsOf(deeds);
const live = () => stage.ready(player.state);

/** Begin anew with the settings of now, unless others are asked for. */
function begin({ prompt, ...rest }) {
  player.start(prompt, { seed: player.state.seed, settings: player.changedSettings(), ...rest });
}

/** A new branch: what was recorded ends with the one it was recorded on. */
function started() {
  films.end();
  timeline.mark(null);
  timeline.clear();
  screen.clear();
  render();
}

/** A seed for a new game: worlds that draw nothing need none, and their links are shorter without. */
function freshSeed() {
  return player.state.own.temperature ? Math.floor(Math.random() * 2 ** 31) : 0;
}

/** The first game of a visit: what the address asks for, unless that was refused, or the first prompt. */
function choose(refused) {
  const { prompts } = player.state;
  const asked = refused ? null : readAddress();
  if (asked) player.start(asked.prompt, asked);
  else if (prompts.length) begin({ prompt: prompts[0].id, seed: freshSeed() });
  else toast("This world has no prompt of its own: drop an image or a short video.");
  if (!localStorage.getItem(VISITED)) stage.hint();
  localStorage.setItem(VISITED, "yes");
}

/** The replay that the page's address asks for; null for none. */
function readAddress() {
  try {
    return parseHash(location.hash);
  } catch (error) {
    toast(error.message, "fault");
    return null;
  }
}

function record() {
  films.toggle();
  timeline.mark(films.first);
  render();
}

function frame(message) {
  if (message.cut) {
    timeline.cut(message.step);
    films.cut(message.step);
    screen.looking = 0;
  }
  if (player.state.comparing && message.step > player.state.truth) player.state.comparing = false;
  screen.show(message);
  timeline.update();
  if (films.full) {
    toast("The film is as long as it can be.");
    record();
  }
}

function drawn(message, now) {
  player.drew(message, now);
  stage.glow(now);
  panel.show(player.state.held, message.prompt ? null : message.code);
}

function change() {
  const { world, link } = player.state;
  if (link !== "live") holds.releaseAll();
  if (world && JSON.stringify(world) !== worldShown) {
    worldShown = JSON.stringify(world);
    map = keymap(world.codes);
    panel.build(world.codes);
    settings.build(player.state);
    fillHelp(world.codes, commands, map);
  }
  render();
}

function render() {
  const { state } = player;
  stage.show(state, films.first);
  if (!state.world) return;
  panel.show(state.held, state.step > 0 ? state.code : null);
  settings.show(state);
  gallery.show(state);
}

for (const name of ["once", "back", "reset", "snap", "compare", "record", "last", "share", "full"])
  by(name).addEventListener("click", () => live() && deeds[name]());
by("play").addEventListener("click", () => live() && deeds.pause());
by("resume").addEventListener("click", () => (player.state.link === "stopped" ? player.connect() : player.play(true)));
by("help-open").addEventListener("click", deeds.help);
by("full").hidden = !document.fullscreenEnabled; // not on an iPhone
setUpTheme(by("theme"));

listen(holds, () => map, (key, shift) => (live() || key === "?") && obey(commands, map, key, shift), by("stage"));
listenToGamepads(holds, () => map, () => player.state.world?.codes.length ?? 0, () => live() && deeds.pause());
document.addEventListener("keydown", () => {
  if (player.state.closed === 4000 && player.state.link === "stopped") player.connect();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden && player.state.playing) player.play(false, "hidden");
});
// A click with a pointer gives the keys back to the world; with the keyboard the focus stays where it is.
document.addEventListener("click", (event) => {
  const control = event.target.closest("button, input:not([type=file])");
  if (event.detail > 0 && control && !control.closest("dialog")) by("stage").focus({ preventScroll: true });
});
let byPointer = false;
document.addEventListener("pointerdown", () => (byPointer = true), true);
document.addEventListener("keydown", () => (byPointer = false), true);
document.addEventListener("change", (event) => {
  if (byPointer && event.target.matches("aside select")) by("stage").focus({ preventScroll: true });
});
window.addEventListener("hashchange", () => {
  const asked = live() && readAddress();
  if (asked) player.start(asked.prompt, asked);
});
setInterval(() => stage.figures(player.stats.read()), FIGURES_EVERY);

/** For tests and the curious: what is going on, to read only. */
window.genie = Object.freeze({
  stats: () => ({ ...player.stats.read(), round_trip_ms: player.connection.roundTrip }),
  state: () => structuredClone({ ...player.state, recording: films.first, films: films.made }),
  branch: () => player.branch.runs(),
  codes: () => player.codes(),
  drawn: () => player.drawn === player.received, // whether the newest frame of this game is on the screen
  latencies: () => [...player.stats.latencies],
  kept: () => [...player.history.pictures.keys()],
});

player.connect();
