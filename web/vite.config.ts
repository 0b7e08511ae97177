import { resolve } from 'node:path';
import { type Plugin, defineConfig } from 'vite';

// Two entries that share nothing but their place: the dashboard on Preact, and GraphiQL on React, which is large and is
// loaded by its own page only. `scripts/pack.mjs` turns what is built into what the server embeds.
/** GraphiQL's styles bring 400 kB of fonts as data: URLs, which the policy refuses; the system's fonts serve as well. */
const withoutFonts: Plugin = {
  name: 'without-fonts',
  enforce: 'pre',
  transform: (code, id) => (id.endsWith('/graphiql/dist/style.css') ? code.replace(/@font-face\s*\{[^}]*\}/g, '') : null),
};

export default defineConfig({
  base: '/ui/',
  plugins: [withoutFonts],
  publicDir: false,
  build: {
    outDir: 'built',
    emptyOutDir: true,
    target: 'es2022',
    // Anything inlined as a data: URL would need a hole in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 8000,
    rollupOptions: {
      // "use client" means nothing here.
      onwarn: (warning, warn) => {
        if (warning.code !== 'MODULE_LEVEL_DIRECTIVE') warn(warning);
      },
      input: { index: resolve(import.meta.dirname, 'index.html'), graphiql: resolve(import.meta.dirname, 'graphiql.html') },
    },
  },
  worker: { format: 'es' },
  server: {
    proxy: { '/graphql': { target: process.env.JOBQL_URL ?? 'http://127.0.0.1:8080', ws: true } },
  },
});
