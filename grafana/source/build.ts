// Writes the dashboards as JSON for Grafana. With --check, writes nothing and fails if a file is out of date.

import { readFileSync, writeFileSync } from 'node:fs';
import { customers } from './customers.js';
import { overview } from './overview.js';
import { pipeline } from './pipeline.js';
import { projects } from './projects.js';
import type { MillraceDashboard } from './schema.js';

const FOLDER = new URL('../../dashboards/', import.meta.url);
const dashboards: Record<string, MillraceDashboard> = { customers, overview, pipeline, projects };

for (const [name, dashboard] of Object.entries(dashboards)) {
  const file = new URL(`${name}.json`, FOLDER);
  const text = `${JSON.stringify(dashboard, null, 2)}\n`;
  if (!process.argv.includes('--check')) {
    writeFileSync(file, text);
  } else if (readFileSync(file, 'utf8') !== text) {
    console.error(`grafana/dashboards/${name}.json is out of date; run npm run build in grafana/source`);
    process.exitCode = 1;
  }
}
