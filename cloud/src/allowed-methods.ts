import type { FastifyInstance } from 'fastify';

/** Which methods a path takes, for the answer 405 with `Allow` (RFC 9110 section 15.5.6). */
export class AllowedMethods {
  private readonly routes = new Map<string, { pattern: RegExp; methods: Set<string> }>();

  /** Must stand before the routes. */
  constructor(server: FastifyInstance) {
    server.addHook('onRoute', ({ url, method }) => {
      const route = this.routes.get(url) ?? { pattern: patternOf(url), methods: new Set() };
      for (const one of [method].flat()) route.methods.add(one);
      this.routes.set(url, route);
    });
  }

  /** Of a URL as it was asked for; none where there is no such path. */
  of(url: string): string[] {
    const path = url.split('?', 1)[0]!;
    const methods = [...this.routes.values()]
      .filter(({ pattern }) => pattern.test(path))
      .flatMap((route) => [...route.methods]);
    return [...new Set(methods)].sort();
  }
}

/** `/v1/models/:name`, `/v1/models/:name(…)::predict` or `/v1/targets/*` as an expression. */
function patternOf(url: string): RegExp {
  const parts = url.split('/').map((part) => {
    if (part === '*') return '.*';
    if (!part.startsWith(':')) return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const [, verb] = part.split('::');
    return verb === undefined ? '[^/]+' : `[^/:]+:${verb}`;
  });
  return new RegExp(`^${parts.join('/')}$`);
}
