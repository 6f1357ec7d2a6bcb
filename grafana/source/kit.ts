// The parts that dashboards are put together from: one function for each kind of panel, and the layout. What a person sees of
// all panels alike, such as colours, legends and levels, is decided here and nowhere else.

import type {
  AnyPanel, BarGaugePanel, Link, Mappings, MillraceDashboard, PrometheusQuery, Query, Row, SqlQuery, StatPanel, TablePanel,
  Thresholds, TimeSeriesPanel, Variable,
} from './schema.js';
import { COMMON, POSTGRES, PROMETHEUS } from './variables.js';

const GRID_WIDTH = 24;

// Green, orange for a warning, red for what must not wait.
export const levels = (warning: number, critical: number): Thresholds => ({
  mode: 'absolute',
  steps: [
    { color: 'green', value: null },
    { color: 'orange', value: warning },
    { color: 'red', value: critical },
  ],
});
// Red below, green from here on.
export const atLeast = (good: number): Thresholds => ({
  mode: 'absolute',
  steps: [
    { color: 'red', value: null },
    { color: 'green', value: good },
  ],
});
// A figure that is neither good nor bad.
export const plain: Thresholds = { mode: 'absolute', steps: [{ color: 'blue', value: null }] };

// The levels of the alert rules.
export const LATENCY_LEVELS = levels(0.1, 0.5);
export const ERROR_LEVELS = levels(0.01, 0.05);
export const AGE_LEVELS = levels(1, 10);

// A state of 1 or 0 in words.
export const states = (one: string, zero: string): Mappings => [
  { type: 'value', options: { '1': { text: one, color: 'green', index: 0 }, '0': { text: zero, color: 'red', index: 1 } } },
];
// A count that should be 0, in words.
export const none = (good: string): Mappings => [{ type: 'value', options: { '0': { text: good, color: 'green', index: 0 } } }];

const runbookLink = (anchor: string): Link[] => [
  {
    title: 'Runbook',
    type: 'link',
    url: `\${runbook}#${anchor}`,
    icon: 'external link',
    tooltip: 'What it means and what to do',
    targetBlank: true,
    asDropdown: false,
    includeVars: false,
    keepTime: false,
    tags: [],
  },
];

// A course over time, asked of Prometheus.
export const series = (legendFormat: string, expr: string): PrometheusQuery => ({
  refId: '',
  datasource: PROMETHEUS,
  editorMode: 'code',
  expr,
  legendFormat,
  interval: '$interval',
  range: true,
  instant: false,
});
// The figure of this moment, asked of Prometheus.
export const instant = (legendFormat: string, expr: string): PrometheusQuery => {
  const { interval: _, ...query } = series(legendFormat, expr);
  return { ...query, range: false, instant: true };
};
// Rows, asked of PostgreSQL.
export const rows = (rawSql: string): SqlQuery => ({
  refId: '',
  datasource: POSTGRES,
  editorMode: 'code',
  format: 'table',
  rawQuery: true,
  rawSql: rawSql.trim(),
});
// A course over time, asked of PostgreSQL: columns time, metric and value.
export const course = (rawSql: string): SqlQuery => ({ ...rows(rawSql), format: 'time_series' });

// What every panel says. `runbook` is an anchor of docs/runbook.md.
interface Said {
  title: string;
  description: string;
  unit: string;
  runbook?: string;
  targets: Query[];
  w?: number;
  h?: number;
}

// Ids and places are given by `dashboard`.
const base = (said: Said, w: number, h: number) => ({
  id: 0,
  title: said.title,
  description: said.description,
  datasource: said.targets[0]!.datasource,
  gridPos: { x: 0, y: 0, w: said.w ?? w, h: said.h ?? h },
  targets: said.targets.map((target, index) => ({ ...target, refId: String.fromCharCode(65 + index) })),
  ...(said.runbook === undefined ? {} : { links: runbookLink(said.runbook) }),
});

export const stat = (
  said: Said & { thresholds?: Thresholds; mappings?: Mappings; decimals?: number; noValue?: string; max?: number; sparkline?: boolean },
): StatPanel => ({
  ...base(said, 4, 4),
  type: 'stat',
  fieldConfig: {
    defaults: {
      unit: said.unit,
      color: { mode: 'thresholds' },
      thresholds: said.thresholds ?? plain,
      mappings: said.mappings ?? [],
      noValue: said.noValue ?? 'no data',
      ...(said.decimals === undefined ? {} : { decimals: said.decimals }),
      ...(said.max === undefined ? {} : { max: said.max }),
    },
    overrides: [],
  },
  options: {
    colorMode: said.thresholds === undefined ? 'value' : 'background',
    graphMode: said.sparkline === false ? 'none' : 'area',
    justifyMode: 'auto',
    orientation: 'auto',
    percentChangeColorMode: 'standard',
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
    showPercentChange: false,
    textMode: 'auto',
    wideLayout: true,
  },
});

export const timeseries = (
  said: Said & {
    // Levels drawn as dashed lines.
    thresholds?: Thresholds;
    stacked?: boolean;
    bars?: boolean;
    steps?: boolean;
    logarithmic?: boolean;
    max?: number;
    // Series whose colour says something.
    colors?: Record<string, string>;
    // Series drawn dashed, such as a limit or a projection.
    dashed?: string;
    mappings?: Mappings;
  },
): TimeSeriesPanel => ({
  ...base(said, 12, 8),
  type: 'timeseries',
  fieldConfig: {
    defaults: {
      unit: said.unit,
      min: 0,
      color: { mode: 'palette-classic' },
      mappings: said.mappings ?? [],
      ...(said.max === undefined ? {} : { max: said.max }),
      ...(said.thresholds === undefined ? {} : { thresholds: said.thresholds }),
      custom: {
        drawStyle: said.bars ? 'bars' : 'line',
        lineInterpolation: said.steps ? 'stepAfter' : 'linear',
        lineWidth: said.bars ? 0 : 2,
        fillOpacity: said.bars ? 80 : said.stacked ? 40 : 8,
        gradientMode: said.stacked || said.bars ? 'none' : 'opacity',
        // So that a course of one point is seen, too.
        showPoints: 'auto',
        spanNulls: false,
        axisPlacement: 'auto',
        axisLabel: '',
        axisBorderShow: false,
        stacking: { group: 'A', mode: said.stacked ? 'normal' : 'none' },
        thresholdsStyle: { mode: said.thresholds === undefined ? 'off' : 'dashed' },
        ...(said.logarithmic ? { scaleDistribution: { type: 'log' as const, log: 10 } } : {}),
      },
    },
    overrides: [
      ...Object.entries(said.colors ?? {}).map(([name, color]) => ({
        matcher: { id: 'byName' as const, options: name },
        properties: [{ id: 'color', value: { mode: 'fixed', fixedColor: color } }],
      })),
      ...(said.dashed === undefined
        ? []
        : [
            {
              matcher: { id: 'byRegexp' as const, options: said.dashed },
              properties: [
                { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 8] } },
                { id: 'custom.fillOpacity', value: 0 },
                // A limit stands where it is, whatever is stacked below it.
                { id: 'custom.stacking', value: { group: 'A', mode: 'none' } },
              ],
            },
          ]),
    ],
  },
  options: {
    legend: { calcs: [], displayMode: 'list', placement: 'bottom', showLegend: true },
    tooltip: { mode: 'multi', sort: 'desc' },
  },
});

export const bargauge = (said: Said & { thresholds?: Thresholds; max?: number; fields?: boolean }): BarGaugePanel => ({
  ...base(said, 12, 8),
  type: 'bargauge',
  fieldConfig: {
    defaults: {
      unit: said.unit,
      min: 0,
      ...(said.max === undefined ? {} : { max: said.max }),
      color: said.thresholds === undefined ? { mode: 'fixed', fixedColor: 'semi-dark-blue' } : { mode: 'thresholds' },
      thresholds: said.thresholds ?? plain,
    },
    overrides: [],
  },
  options: {
    displayMode: 'gradient',
    legend: { calcs: [], displayMode: 'list', placement: 'bottom', showLegend: false },
    maxVizHeight: 32,
    minVizHeight: 16,
    minVizWidth: 8,
    namePlacement: 'auto',
    orientation: 'horizontal',
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: said.fields === true },
    showUnfilled: true,
    sizing: 'manual',
    valueMode: 'color',
  },
});

// How a column of a table is shown.
export interface Column {
  unit?: string;
  width?: number;
  decimals?: number;
  // As a bar against `max`, or coloured by its level.
  cell?: 'bar' | 'coloured';
  thresholds?: Thresholds;
  max?: number;
  hidden?: boolean;
}

const columnProperties = (column: Column): { id: string; value: unknown }[] => [
  ...(column.unit === undefined ? [] : [{ id: 'unit', value: column.unit }]),
  ...(column.width === undefined ? [] : [{ id: 'custom.width', value: column.width }]),
  ...(column.decimals === undefined ? [] : [{ id: 'decimals', value: column.decimals }]),
  ...(column.max === undefined ? [] : [{ id: 'min', value: 0 }, { id: 'max', value: column.max }]),
  ...(column.thresholds === undefined ? [] : [{ id: 'thresholds', value: column.thresholds }]),
  ...(column.cell === 'bar' ? [{ id: 'custom.cellOptions', value: { type: 'gauge', mode: 'basic', valueDisplayMode: 'text' } }] : []),
  ...(column.cell === 'coloured' ? [{ id: 'custom.cellOptions', value: { type: 'color-text' } }] : []),
  ...(column.hidden ? [{ id: 'custom.hidden', value: true }] : []),
];

export const table = (said: Said & { columns?: Record<string, Column>; noValue?: string }): TablePanel => ({
  ...base(said, 24, 8),
  type: 'table',
  fieldConfig: {
    defaults: {
      unit: said.unit,
      color: { mode: 'thresholds' },
      thresholds: { mode: 'absolute', steps: [{ color: 'green', value: null }] },
      noValue: said.noValue ?? '',
      custom: { align: 'auto', cellOptions: { type: 'auto' }, filterable: false },
    },
    overrides: Object.entries(said.columns ?? {}).map(([name, column]) => ({
      matcher: { id: 'byName' as const, options: name },
      properties: columnProperties(column),
    })),
  },
  options: { cellHeight: 'sm', frameIndex: 0, showHeader: true },
});

// A heading and the panels below it.
export interface Section {
  title: string;
  panels: AnyPanel[];
}

// Panels stand side by side until the row is full, and get their ids in that order.
function place(sections: Section[]): (AnyPanel | Row)[] {
  const placed: (AnyPanel | Row)[] = [];
  let y = 0;
  for (const { title, panels } of sections) {
    placed.push({ id: placed.length + 1, type: 'row', title, collapsed: false, gridPos: { x: 0, y, w: GRID_WIDTH, h: 1 }, panels: [] });
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of panels) {
      const { w, h } = panel.gridPos;
      if (x + w > GRID_WIDTH) {
        [x, y, height] = [0, y + height, 0];
      }
      placed.push({ ...panel, id: placed.length + 1, gridPos: { x, y, w, h } });
      x += w;
      height = Math.max(height, h);
    }
    y += height;
  }
  return placed;
}

// One dashboard, from top to bottom.
export const dashboard = (told: {
  uid: string;
  title: string;
  description: string;
  refresh: string;
  from: string;
  to: string;
  variables: Variable[];
  sections: Section[];
}): MillraceDashboard => ({
  uid: told.uid,
  title: told.title,
  description: told.description,
  tags: ['millrace'],
  timezone: 'utc',
  schemaVersion: 41,
  version: 1,
  editable: false,
  graphTooltip: 1,
  refresh: told.refresh,
  time: { from: told.from, to: told.to },
  links: [
    {
      title: 'Millrace',
      type: 'dashboards',
      tags: ['millrace'],
      icon: 'dashboard',
      tooltip: '',
      asDropdown: false,
      includeVars: false,
      keepTime: false,
      targetBlank: false,
    },
  ],
  templating: { list: [...COMMON, ...told.variables] },
  annotations: { list: [] },
  panels: place(told.sections),
});
