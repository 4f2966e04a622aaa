// Numbers, sizes, money and times as text. A figure that is not known is a dash.

export const UNKNOWN = "–";
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const EXACT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const STEPS = /** @type {[number, Intl.RelativeTimeFormatUnit][]} */ ([
  [60, "second"],
  [3600, "minute"],
  [86400, "hour"],
  [Infinity, "day"],
]);
const DIVISORS = /** @type {Record<string, number>} */ ({ second: 1, minute: 60, hour: 3600, day: 86400 });

/** @param {number | null | undefined} value @param {number} [digits] */
export function number(value, digits = 0) {
  if (value === null || value === undefined) return UNKNOWN;
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** @param {number | null | undefined} value */
export function figure(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1000) return number(value);
  if (size >= 1) return value.toFixed(3);
  return size >= 0.001 ? value.toFixed(4) : value.toPrecision(3);
}

/** @param {number | null | undefined} value */
export function percent(value) {
  return value === null || value === undefined ? UNKNOWN : `${(value * 100).toFixed(1)} %`;
}

/** @param {number | null | undefined} value */
export function usd(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return `$${value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: value < 1 && value > 0 ? 4 : 2 })}`;
}

/** @param {number | null | undefined} value */
export function bytes(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let size = value;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0)} ${units[unit]}`;
}

/** @param {number | null | undefined} value */
export function seconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** @param {string} time */
export function relative(time) {
  const difference = (Date.parse(time) - Date.now()) / 1000;
  if (Math.abs(difference) < 5) return "now";
  const [, unit] = STEPS.find(([limit]) => Math.abs(difference) < limit) ?? [0, "day"];
  return RELATIVE.format(Math.round(difference / DIVISORS[unit]), unit);
}

/** @param {string} time */
export function exact(time) {
  return `${EXACT.format(new Date(time))} (${time})`;
}

/** @param {string} text */
export function words(text) {
  const spaced = text.replaceAll("_", " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
