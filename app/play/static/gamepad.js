// A gamepad: cross and left stick are the directions (as WASD or arrows, where the world has them), the buttons are the
// actions in their order, Start pauses. Read once a refresh while one is connected.

const DEAD = 0.5; // of the stick's way
const CROSS = { 12: "ArrowUp", 13: "ArrowDown", 14: "ArrowLeft", 15: "ArrowRight" };
const START = 9;

/** @param {import("./keys.js").Holds} holds */
export function listenToGamepads(holds, map, count, pause) {
  let running = false;
  let before = new Set();
  const read = () => {
    const pads = [...navigator.getGamepads()].filter(Boolean);
    const now = new Map(pads.flatMap((pad) => [...pressed(pad, map(), count())]));
    for (const source of before) if (!now.has(source)) holds.release(source);
    for (const [source, code] of now) {
      if (before.has(source)) continue;
      if (code === null) pause();
      else holds.press(source, code);
    }
    before = new Set(now.keys());
    running = pads.length > 0;
    if (running) requestAnimationFrame(read);
  };
  window.addEventListener("gamepadconnected", () => {
    if (!running) requestAnimationFrame(read);
    running = true;
  });
}

/** Sources that are pressed on a pad, with their codes; null for Start. */
function* pressed(pad, map, count) {
  const [x = 0, y = 0] = pad.axes;
  const stick = { ArrowLeft: x < -DEAD, ArrowRight: x > DEAD, ArrowUp: y < -DEAD, ArrowDown: y > DEAD };
  const directions = new Set(Object.keys(stick).filter((key) => stick[key]));
  for (const [number, key] of Object.entries(CROSS)) if (pad.buttons[number]?.pressed) directions.add(key);
  for (const key of directions) if (map.has(key)) yield [`pad${pad.index}:${key}`, map.get(key)];
  for (const [number, button] of pad.buttons.entries()) {
    if (!button.pressed) continue;
    if (number === START) yield [`pad${pad.index}:start`, null];
    else if (number < Math.min(count, START)) yield [`pad${pad.index}:${number}`, number];
  }
}
