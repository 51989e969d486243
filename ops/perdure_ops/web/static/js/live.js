// Loading that never overlaps itself: what is asked for while it runs is done once, afterwards.

/**
 * A function that loads, at most once at a time and at most once in `pause_ms`.
 * @param {() => Promise<void>} load
 * @param {number} pause_ms
 * @param {AbortSignal} signal
 * @param {(error: Error) => void} fail
 */
export function gently(load, pause_ms, signal, fail) {
  let running = false;
  let again = false;
  return async function reload() {
    again = true;
    if (running) return;
    running = true;
    while (again && !signal.aborted) {
      again = false;
      try {
        await load();
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") break;
        fail(error);
      }
      await new Promise((resolve) => setTimeout(resolve, pause_ms));
    }
    running = false;
  };
}

/** Do something every so often while a page is shown and its tab is seen. */
export function every(ms, signal, act) {
  const timer = setInterval(() => {
    if (!document.hidden) act();
  }, ms);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
