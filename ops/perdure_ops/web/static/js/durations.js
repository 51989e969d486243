// Durations as people write them: 1h30m, 45s, 500ms. What `span` writes, `milliseconds` reads.

const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1_000], ["ms", 1]];
const PART = /(\d+(?:\.\d+)?)(ms|d|h|m|s)/g;

/** A duration as text; empty for none. */
export function span(ms) {
  let left = ms ?? 0;
  let text = "";
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    if (count) text += `${count}${unit}`;
    left -= count * size;
  }
  return text;
}

/** The milliseconds of a text. */
export function milliseconds(text) {
  const parts = [...text.matchAll(PART)];
  if (!parts.length || parts.map(([part]) => part).join("") !== text.trim()) throw new Error(`${text}: this is no duration; write 1h30m, 45s or 500ms`);
  return Math.round(parts.reduce((sum, [, count, unit]) => sum + Number(count) * Object.fromEntries(UNITS)[unit], 0));
}
