// Draws every section of every dashboard into docs/images, from the results of the dashboards test.

import { mkdirSync, readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { preview } from 'vite';

const [answersFile] = process.argv.slice(2);
const IMAGES = new URL('../../docs/images/', import.meta.url).pathname;
const DASHBOARDS = new URL('../dashboards/', import.meta.url).pathname;
const slug = (title) => title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');

const results = JSON.parse(readFileSync(answersFile, 'utf8'));
const server = await preview({ preview: { port: 0, host: '127.0.0.1' }, logLevel: 'warn' });
const { port } = server.httpServer.address();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
mkdirSync(IMAGES, { recursive: true });
let pageErrors = 0;
for (const [name, { range, panels }] of Object.entries(results)) {
  const dashboard = JSON.parse(readFileSync(`${DASHBOARDS}${name}.json`, 'utf8'));
  const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
  page.on('pageerror', (error) => {
    pageErrors += 1;
    console.error(`${name}: ${error.stack}`);
  });
  await page.addInitScript((drawing) => { window.drawing = drawing; }, { dashboard, answers: panels, range });
  await page.goto(`http://127.0.0.1:${port}/`);
  const sections = page.locator('section[data-title]');
  await sections.first().waitFor();
  // Fonts and canvases are complete when the network is idle.
  await page.waitForLoadState('networkidle');
  for (const section of await sections.all()) {
    const title = await section.getAttribute('data-title');
    await section.screenshot({ path: `${IMAGES}dashboard-${name}-${slug(title)}.png`, animations: 'disabled' });
  }
  await page.close();
}
await browser.close();
await server.close();
process.exitCode = pageErrors === 0 ? 0 : 1;
