// Dark and light: the system's choice until the person makes one, which this browser remembers.

const KEY = "genie.theme";

let forgotten = null; // the choice where the browser keeps no data for pages

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return forgotten;
  }
}

function choose(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    forgotten = theme;
  }
}

/** @param {HTMLElement} button that switches */
export function setUpTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const now = () => chosen() ?? (system.matches ? "dark" : "light");
  const show = () => {
    document.documentElement.dataset.theme = now();
    button.setAttribute("aria-label", now() === "dark" ? "Switch to light" : "Switch to dark");
  };
  button.addEventListener("click", () => {
    choose(now() === "dark" ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}
