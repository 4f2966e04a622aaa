// Light, dark, or as the system has it. The choice stays in this browser.

const NAME = "flow-nexus-theme";
const CHOICES = ["system", "light", "dark"];

/** @returns {string} */
export function theme() {
  const stored = localStorage.getItem(NAME) ?? "system";
  return CHOICES.includes(stored) ? stored : "system";
}

/** @param {string} choice */
export function setTheme(choice) {
  localStorage.setItem(NAME, choice);
  apply();
}

function apply() {
  const choice = theme();
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

apply();
