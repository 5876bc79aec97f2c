// Runs before the page is painted. The choice is the system's until somebody presses the button.
(() => {
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');

  /** @returns {string | null} */
  function chosen() {
    try {
      return localStorage.getItem('cardan-theme');
    } catch {
      return null; // storage may be switched off
    }
  }

  /** @param {string | null} theme */
  function show(theme) {
    root.dataset.theme = theme ?? (dark.matches ? 'dark' : 'light');
    document.dispatchEvent(new Event('themechange'));
  }

  show(chosen());
  dark.addEventListener('change', () => show(chosen()));
  document.addEventListener('click', (event) => {
    if (!(/** @type {Element} */ (event.target).closest('[data-theme-toggle]'))) return;
    const theme = root.dataset.theme === 'dark' ? 'light' : 'dark';
    try {
      localStorage.setItem('cardan-theme', theme);
    } catch {
      // It holds for this visit only.
    }
    show(theme);
  });
})();
