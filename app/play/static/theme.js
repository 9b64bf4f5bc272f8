// Dark and light: the system's choice until the person makes one, which this browser remembers.

const KEY = "genie.theme";

/** @param {HTMLElement} button that switches */
export function setUpTheme(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem(KEY);
  const now = () => chosen() ?? (system.matches ? "dark" : "light");
  const show = () => {
    document.documentElement.dataset.theme = now();
    button.setAttribute("aria-label", now() === "dark" ? "Switch to light" : "Switch to dark");
  };
  button.addEventListener("click", () => {
    localStorage.setItem(KEY, now() === "dark" ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}
