// How values are said to people.

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });
const ordinals = new Intl.PluralRules("en", { type: "ordinal" });
const ENDINGS: Record<string, string> = { one: "st", two: "nd", few: "rd", other: "th" };

export function dollars(amount: number): string {
  const places = amount !== 0 && Math.abs(amount) < 0.01 ? 6 : 2;
  return `$${amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: places })}`;
}

/** A moment in unix seconds or as ISO 8601: the clock alone today, with the day before. */
export function moment(value: number | string): string {
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  return (date.toDateString() === new Date().toDateString() ? clock : dayAndClock).format(date);
}

export function ordinal(number: number): string {
  return `${number}${ENDINGS[ordinals.select(number)]}`;
}

export function size(text: string): string {
  return text.replace("x", " × ");
}

export function plural(count: number, one: string): string {
  return `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
}

/** Width and height of a size such as 720x1280. */
export function pixels(text: string): [number, number] {
  const [width = 16, height = 9] = text.split("x").map(Number);
  return [width || 16, height || 9];
}
