import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['**/node_modules/', '.dependency-cruiser.cjs'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/consistent-type-definitions': 'off',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/prefer-nullish-coalescing': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-empty-function': 'off',
    },
  },
  {
    files: ['**/bin/*.js', '**/scripts/*.js', 'bench/*.js', 'ops/*/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
  {
    files: ['cloud/src/monitor/page/**/*.js'],
    languageOptions: {
      globals: Object.fromEntries(
        [
          'window',
          'document',
          'EventSource',
          'fetch',
          'URL',
          'URLSearchParams',
          'Blob',
          'location',
          'history',
          'localStorage',
          'matchMedia',
          'requestAnimationFrame',
          'cancelAnimationFrame',
          'ResizeObserver',
          'setTimeout',
          'clearTimeout',
          'setInterval',
          'clearInterval',
          'console',
          'performance',
          'devicePixelRatio',
          'getComputedStyle',
          'HTMLElement',
          'CSS',
          'navigator',
          'AbortController',
          'Intl',
          'addEventListener',
          'Event',
        ].map((name) => [name, 'readonly']),
      ),
    },
  },
);
