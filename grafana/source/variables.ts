// The variables of the dashboards, including the two data sources.

import type { Variable } from './schema.js';

export const PROMETHEUS = { type: 'prometheus', uid: '${prometheus}' } as const;
export const POSTGRES = { type: 'grafana-postgresql-datasource', uid: '${postgres}' } as const;

const dataSource = (name: string, label: string, query: string, uid: string): Variable => ({
  type: 'datasource',
  name,
  label,
  query,
  current: { text: label, value: uid },
  multi: false,
  includeAll: false,
});

// The variables of every dashboard.
export const COMMON: Variable[] = [
  dataSource('prometheus', 'Prometheus', PROMETHEUS.type, 'millrace-prometheus'),
  dataSource('postgres', 'PostgreSQL', POSTGRES.type, 'millrace-postgres'),
  {
    type: 'constant',
    name: 'runbook',
    label: 'Runbook',
    description: 'Address of docs/runbook.md',
    hide: 2,
    query: '/public/millrace/runbook.md',
  },
];

// The processes whose metrics are shown.
export const INSTANCE: Variable = {
  type: 'query',
  name: 'instance',
  label: 'Instance',
  datasource: PROMETHEUS,
  query: { query: 'label_values(millrace_build_info, instance)', refId: 'instance' },
  refresh: 2,
  sort: 1,
  multi: true,
  includeAll: true,
  allValue: '.*',
  current: { text: ['All'], value: ['$__all'] },
};

// "All" is a subquery instead of a list, because there may be many projects.
export const PROJECT: Variable = {
  type: 'query',
  name: 'project',
  label: 'Project',
  datasource: POSTGRES,
  query: 'SELECT name AS __text, project_id AS __value FROM projects ORDER BY name',
  refresh: 2,
  sort: 0,
  multi: true,
  includeAll: true,
  allValue: 'SELECT project_id FROM projects',
  current: { text: ['All'], value: ['$__all'] },
};

// One meter: figures of several cannot be added up.
export const METER: Variable = {
  type: 'query',
  name: 'meter',
  label: 'Meter',
  datasource: POSTGRES,
  query:
    "SELECT name || ': ' || slug AS __text, meter_id AS __value FROM meters JOIN projects USING (project_id) WHERE deleted_at IS NULL ORDER BY 1",
  refresh: 2,
  sort: 0,
  multi: false,
  includeAll: false,
  current: { text: '', value: '' },
};

export const intervals = (description: string, choices: string[]): Variable => ({
  type: 'interval',
  name: 'interval',
  label: 'Interval',
  description,
  query: choices.join(','),
  refresh: 2,
  current: { text: choices[0]!, value: choices[0]! },
});
