const TIME =
  /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:(Z)|([+-])(\d\d):?(\d\d)?)$/;

/**
 * ISO 8601 with its zone → milliseconds since 1970. A time without one would be off by hours, and so would its label.
 * Throws RangeError, saying what is wrong.
 */
export function zonedTime(text: string): number {
  const match = TIME.exec(text);
  if (match === null)
    throw new RangeError(
      `"${text}" is no time with its zone. Write it as 2026-03-01T16:30:00+01:00 or 2026-03-01T15:30:00Z.`,
    );
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((part) => Number(part ?? 0)) as [
    ...[year: number, month: number, day: number, hour: number, minute: number, second: number],
  ];
  const ms = Math.floor(Number(`0.${match[7] ?? '0'}`) * 1000);
  const [sign, zoneHour, zoneMinute] = [
    match[9] === '-' ? -1 : 1,
    Number(match[10] ?? 0),
    Number(match[11] ?? 0),
  ];
  const local = new Date(Date.UTC(year, month - 1, day, hour, minute, second, ms));
  // Date.UTC takes February 30 for March 2, and the year 99 for 1999.
  const sound =
    [local.getUTCFullYear(), local.getUTCMonth() + 1, local.getUTCDate()].join() ===
      [year, month, day].join() &&
    hour < 24 &&
    minute < 60 &&
    second < 60 &&
    zoneHour < 24 &&
    zoneMinute < 60;
  if (!sound) throw new RangeError(`There is no such time as "${text}".`);
  return local.getTime() - sign * (zoneHour * 60 + zoneMinute) * 60_000;
}
