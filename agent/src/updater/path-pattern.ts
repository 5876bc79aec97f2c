/**
 * Whether a target path is one that a delegation hands on, as TUF 1.0 (4.5) has it: `*` stands for any characters
 * of one part between slashes, `?` for one of them; everything else stands for itself. No other syntax, and never more
 * than the length of one times that of the other in steps: the patterns come from outside.
 */
export function matchesPattern(path: string, pattern: string): boolean {
  const parts = path.split('/');
  const patterns = pattern.split('/');
  return parts.length === patterns.length && parts.every((part, i) => matchesPart(part, patterns[i] ?? ''));
}

function matchesPart(text: string, pattern: string): boolean {
  let at = 0;
  let next = 0;
  // Where the last `*` stands, and up to where it reaches: only it ever has to be tried again.
  let star = -1;
  let reach = 0;
  while (at < text.length) {
    if (next < pattern.length && pattern[next] === '*') {
      star = next++;
      reach = at;
    } else if (next < pattern.length && (pattern[next] === '?' || pattern[next] === text[at])) {
      at++;
      next++;
    } else if (star >= 0) {
      next = star + 1;
      at = ++reach;
    } else return false;
  }
  while (pattern[next] === '*') next++;
  return next === pattern.length;
}
