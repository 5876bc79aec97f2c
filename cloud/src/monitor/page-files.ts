import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface PageFile {
  type: string;
  bytes: Buffer;
  etag: string;
}

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * The page's files by their path in the URL, read once: only what is listed here can be asked for, so no path
 * can lead out of the folder. The charting library comes from its npm package, nothing from other hosts.
 */
export function readPageFiles(): Map<string, PageFile> {
  const folder = fileURLToPath(new URL('./page', import.meta.url));
  const uplot = join(dirname(createRequire(import.meta.url).resolve('uplot')));
  const files = new Map<string, PageFile>();
  for (const name of readdirSync(folder))
    if (extname(name) in TYPES) files.set(`/${name}`, pageFile(join(folder, name)));
  files.set('/vendor/uplot.js', pageFile(join(uplot, 'uPlot.esm.js')));
  files.set('/vendor/uplot.css', pageFile(join(uplot, 'uPlot.min.css')));
  const index = files.get('/index.html');
  if (index !== undefined) files.set('/', index);
  return files;
}

/**
 * Content-Security-Policy: scripts, styles and connections from this server alone, nothing inline. The one
 * inline block, the import map, is named by its hash (CSP 3, 8.4), as import maps cannot be fetched.
 */
export function contentSecurityPolicy(html: string): string {
  const hashes = [...html.matchAll(/<script type="importmap">([\s\S]*?)<\/script>/g)].map(
    ([, text = '']) => ` 'sha256-${createHash('sha256').update(text).digest('base64')}'`,
  );
  return [
    "default-src 'none'",
    `script-src 'self'${hashes.join('')}`,
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

function pageFile(path: string): PageFile {
  const bytes = readFileSync(path);
  const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
  return { type: TYPES[extname(path)] ?? 'application/octet-stream', bytes, etag };
}
