import { defineConfig } from 'vite';

export default defineConfig({
  // Grafana's components read `process.env.NODE_ENV`, which browsers do not have.
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  build: { outDir: '.build', chunkSizeWarningLimit: 10_000, minify: false },
  esbuild: { jsx: 'automatic' },
});
