// Does a thing again and again, one at a time, while the tab is visible.

import { isKeyNeeded } from "./api.js";

/** Call `act` every so many seconds. It may return how much longer the next call has to wait. */
export async function repeat(seconds, act) {
  for (;;) {
    await pause(seconds);
    await visibility();
    if (!isKeyNeeded()) await pause(await act() || 0);
  }
}

/** Wait for some seconds. */
export function pause(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

/** Wait until the tab is visible. */
export async function visibility() {
  if (!document.hidden) return;
  await new Promise((resolve) =>
    document.addEventListener("visibilitychange", resolve, { once: true }));
}
