// Speed, what happens with no key held, and a slider for each setting that the world has.

const KNOBS = {
  temperature: { label: "Temperature", help: "How freely the world draws among futures; 0 draws none", step: 0.05 },
  noise_level: { label: "Context noise", help: "How much the dynamics distrusts its past frames", step: 0.01 },
  clamp: { label: "Clamp", help: "Deviations beyond which a generated frame is cut off", step: 0.5 },
  reencode_every: { label: "Encode anew every", help: "Steps between returns to the encoder; 0 for never", step: 1 },
};
const SMOOTH = "genie.smooth";
const PAUSE = 60; // ms without a movement of a slider until its value is sent
const CRISP_UP_TO = 128; // pixels of a side, above which a picture is smooth unless the person says otherwise

const by = (id) => document.getElementById(id);
const shown = (value) => (value === null ? "none" : Number.isInteger(value) ? String(value) : Number(value).toFixed(2));

export class SettingsPanel {
  /** @param {import("./player.js").Player} player */
  constructor(player) {
    this.player = player;
    this.sliders = {};
    by("speed").addEventListener("input", () => player.speed(2 ** Number(by("speed").value)));
    by("rest").addEventListener("change", () => player.rest(by("rest").value === "" ? null : Number(by("rest").value)));
    by("own").addEventListener("click", () => player.set(this.#message({})));
    by("smooth").addEventListener("change", () => {
      localStorage.setItem(SMOOTH, by("smooth").checked);
      this.#smooth();
    });
  }

  /** Controls for a world. */
  build({ world, own }) {
    const waiting = new Option("the world waits", "");
    by("rest").replaceChildren(waiting, ...world.codes.map(({ name }, code) => new Option(name, code)));
    this.sliders = {};
    const names = Object.keys(KNOBS).filter((name) => own[name]);
    by("knobs").replaceChildren(...names.map((name) => this.#slider(name, own[name])));
    const said = localStorage.getItem(SMOOTH);
    by("smooth").checked = said === null ? world.size > CRISP_UP_TO : said === "true";
    this.#smooth();
  }

  /** What the server says is set. */
  show({ speed, rest, settings }) {
    const place = Math.round(Math.log2(speed) * 2) / 2;
    if (document.activeElement !== by("speed")) by("speed").value = place;
    by("speed-value").textContent = `${Number(speed.toFixed(2))}×`;
    by("speed").setAttribute("aria-valuetext", `${Number(speed.toFixed(2))} times`);
    by("rest").value = rest === null ? "" : String(rest);
    for (const [name, { input, output }] of Object.entries(this.sliders)) {
      if (settings[name] === undefined) continue;
      if (document.activeElement !== input) input.value = settings[name];
      output.textContent = shown(settings[name]);
    }
    by("own").hidden = Object.keys(this.player.changedSettings()).length === 0;
  }

  #slider(name, { value, least, most }) {
    const { label, help, step } = KNOBS[name];
    const box = document.createElement("label");
    box.className = "slider";
    box.title = help;
    const words = document.createElement("span");
    words.textContent = label;
    const output = document.createElement("output");
    output.textContent = shown(value);
    const input = document.createElement("input");
    Object.assign(input, { type: "range", id: `knob-${name}`, min: least, max: most, step, value });
    input.setAttribute("aria-label", `${label}. ${help}`);
    input.addEventListener("input", () => {
      output.textContent = shown(Number(input.value));
      clearTimeout(this.sending);
      const given = { [name]: Number(input.value) };
      const all = () => this.#message({ ...this.player.changedSettings(), ...given });
      this.sending = setTimeout(() => this.player.set(all()), PAUSE);
    });
    box.append(words, output, input);
    this.sliders[name] = { input, output };
    return box;
  }

  /** All settings for a message: those given, and null, the world's own, for the others. */
  #message(given) {
    return Object.fromEntries(Object.keys(this.player.state.own).map((name) => [name, given[name] ?? null]));
  }

  #smooth() {
    document.documentElement.classList.toggle("smooth", by("smooth").checked);
  }
}
