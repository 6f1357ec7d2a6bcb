import { defineConfig } from 'vite';

export default defineConfig({
  // Grafana's components are old enough to ask which environment this is.
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  build: { outDir: '.build', chunkSizeWarningLimit: 10_000, minify: false },
  esbuild: { jsx: 'automatic' },
});
