// Builds dashboards: one function for each kind of panel, and the layout. Colors, legends, thresholds and
// other settings that all panels share must be set here and nowhere else.

import type {
  AnyPanel, BarGaugePanel, Link, Mappings, MillraceDashboard, PrometheusQuery, Query, Row, SqlQuery, StatPanel, TablePanel,
  Thresholds, TimeSeriesPanel, Variable,
} from './schema.js';
import { COMMON, POSTGRES, PROMETHEUS } from './variables.js';

const GRID_WIDTH = 24;

// Green; orange from the warning level; red from the critical level.
export const levels = (warning: number, critical: number): Thresholds => ({
  mode: 'absolute',
  steps: [
    { color: 'green', value: null },
    { color: 'orange', value: warning },
    { color: 'red', value: critical },
  ],
});
// Red below the value, green from the value on.
export const atLeast = (good: number): Thresholds => ({
  mode: 'absolute',
  steps: [
    { color: 'red', value: null },
    { color: 'green', value: good },
  ],
});
// For a value that is neither good nor bad.
export const neutral: Thresholds = { mode: 'absolute', steps: [{ color: 'blue', value: null }] };

// The same levels as in the alert rules.
export const LATENCY_LEVELS = levels(0.1, 0.5);
export const ERROR_LEVELS = levels(0.01, 0.05);
export const AGE_LEVELS = levels(1, 10);

// Shows 1 and 0 as words.
export const states = (one: string, zero: string): Mappings => [
  { type: 'value', options: { '1': { text: one, color: 'green', index: 0 }, '0': { text: zero, color: 'red', index: 1 } } },
];
// Shows a count of 0, which is good, as a word.
export const zeroAs = (text: string): Mappings => [{ type: 'value', options: { '0': { text, color: 'green', index: 0 } } }];

const runbookLink = (anchor: string): Link[] => [
  {
    title: 'Runbook',
    type: 'link',
    url: `\${runbook}#${anchor}`,
    icon: 'external link',
    tooltip: 'Meaning, causes and actions',
    targetBlank: true,
    asDropdown: false,
    includeVars: false,
    keepTime: false,
    tags: [],
  },
];

// A PromQL query for values over time.
export const rangeQuery = (legendFormat: string, expr: string): PrometheusQuery => ({
  refId: '',
  datasource: PROMETHEUS,
  editorMode: 'code',
  expr,
  legendFormat,
  interval: '$interval',
  range: true,
  instant: false,
});
// A PromQL query for the current value.
export const instantQuery = (legendFormat: string, expr: string): PrometheusQuery => {
  const { interval: _, ...query } = rangeQuery(legendFormat, expr);
  return { ...query, range: false, instant: true };
};
// An SQL query for rows.
export const sqlTable = (rawSql: string): SqlQuery => ({
  refId: '',
  datasource: POSTGRES,
  editorMode: 'code',
  format: 'table',
  rawQuery: true,
  rawSql: rawSql.trim(),
});
// An SQL query for values over time. Its columns must be time, metric and value.
export const sqlTimeSeries = (rawSql: string): SqlQuery => ({ ...sqlTable(rawSql), format: 'time_series' });

// The options of every panel. `runbook` is an anchor in docs/runbook.md; `w` and `h` are in grid cells.
interface PanelOptions {
  title: string;
  description: string;
  unit: string;
  runbook?: string;
  targets: Query[];
  w?: number;
  h?: number;
}

// `dashboard` assigns ids and positions.
const base = (panel: PanelOptions, w: number, h: number) => ({
  id: 0,
  title: panel.title,
  description: panel.description,
  datasource: panel.targets[0]!.datasource,
  gridPos: { x: 0, y: 0, w: panel.w ?? w, h: panel.h ?? h },
  targets: panel.targets.map((target, index) => ({ ...target, refId: String.fromCharCode(65 + index) })),
  ...(panel.runbook === undefined ? {} : { links: runbookLink(panel.runbook) }),
});

export const stat = (
  panel: PanelOptions & { thresholds?: Thresholds; mappings?: Mappings; decimals?: number; noValue?: string; max?: number; sparkline?: boolean },
): StatPanel => ({
  ...base(panel, 4, 4),
  type: 'stat',
  fieldConfig: {
    defaults: {
      unit: panel.unit,
      color: { mode: 'thresholds' },
      thresholds: panel.thresholds ?? neutral,
      mappings: panel.mappings ?? [],
      noValue: panel.noValue ?? 'no data',
      ...(panel.decimals === undefined ? {} : { decimals: panel.decimals }),
      ...(panel.max === undefined ? {} : { max: panel.max }),
    },
    overrides: [],
  },
  options: {
    colorMode: panel.thresholds === undefined ? 'value' : 'background',
    graphMode: panel.sparkline === false ? 'none' : 'area',
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
  panel: PanelOptions & {
    // Drawn as dashed lines.
    thresholds?: Thresholds;
    stacked?: boolean;
    bars?: boolean;
    steps?: boolean;
    logarithmic?: boolean;
    max?: number;
    // Colors by the name of the series.
    colors?: Record<string, string>;
    // A regular expression for series to draw dashed, such as a limit or a projection.
    dashed?: string;
    mappings?: Mappings;
  },
): TimeSeriesPanel => ({
  ...base(panel, 12, 8),
  type: 'timeseries',
  fieldConfig: {
    defaults: {
      unit: panel.unit,
      min: 0,
      color: { mode: 'palette-classic' },
      mappings: panel.mappings ?? [],
      ...(panel.max === undefined ? {} : { max: panel.max }),
      ...(panel.thresholds === undefined ? {} : { thresholds: panel.thresholds }),
      custom: {
        drawStyle: panel.bars ? 'bars' : 'line',
        lineInterpolation: panel.steps ? 'stepAfter' : 'linear',
        lineWidth: panel.bars ? 0 : 2,
        fillOpacity: panel.bars ? 80 : panel.stacked ? 40 : 8,
        gradientMode: panel.stacked || panel.bars ? 'none' : 'opacity',
        // Without points, a series of one value would be invisible.
        showPoints: 'auto',
        pointSize: 5,
        spanNulls: false,
        axisPlacement: 'auto',
        axisLabel: '',
        axisBorderShow: false,
        stacking: { group: 'A', mode: panel.stacked ? 'normal' : 'none' },
        thresholdsStyle: { mode: panel.thresholds === undefined ? 'off' : 'dashed' },
        ...(panel.logarithmic ? { scaleDistribution: { type: 'log' as const, log: 10 } } : {}),
      },
    },
    overrides: [
      ...Object.entries(panel.colors ?? {}).map(([name, color]) => ({
        matcher: { id: 'byName' as const, options: name },
        properties: [{ id: 'color', value: { mode: 'fixed', fixedColor: color } }],
      })),
      ...(panel.dashed === undefined
        ? []
        : [
            {
              matcher: { id: 'byRegexp' as const, options: panel.dashed },
              properties: [
                { id: 'custom.lineStyle', value: { fill: 'dash', dash: [8, 8] } },
                { id: 'custom.fillOpacity', value: 0 },
                // A limit must not be stacked on the other series.
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

export const bargauge = (panel: PanelOptions & { thresholds?: Thresholds; max?: number; fields?: boolean }): BarGaugePanel => ({
  ...base(panel, 12, 8),
  type: 'bargauge',
  fieldConfig: {
    defaults: {
      unit: panel.unit,
      min: 0,
      ...(panel.max === undefined ? {} : { max: panel.max }),
      color: panel.thresholds === undefined ? { mode: 'fixed', fixedColor: 'semi-dark-blue' } : { mode: 'thresholds' },
      thresholds: panel.thresholds ?? neutral,
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
    reduceOptions: { calcs: ['lastNotNull'], fields: '', values: panel.fields === true },
    showUnfilled: true,
    sizing: 'manual',
    valueMode: 'color',
  },
});

// The format of a table column.
export interface Column {
  unit?: string;
  width?: number;
  decimals?: number;
  // A bar up to `max`, or text colored by the thresholds.
  cell?: 'bar' | 'colored';
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
  ...(column.cell === 'colored' ? [{ id: 'custom.cellOptions', value: { type: 'color-text' } }] : []),
  ...(column.hidden ? [{ id: 'custom.hidden', value: true }] : []),
];

export const table = (panel: PanelOptions & { columns?: Record<string, Column>; noValue?: string }): TablePanel => ({
  ...base(panel, 24, 8),
  type: 'table',
  fieldConfig: {
    defaults: {
      unit: panel.unit,
      color: { mode: 'thresholds' },
      thresholds: { mode: 'absolute', steps: [{ color: 'green', value: null }] },
      noValue: panel.noValue ?? '',
      custom: { align: 'auto', cellOptions: { type: 'auto' }, filterable: false },
    },
    overrides: Object.entries(panel.columns ?? {}).map(([name, column]) => ({
      matcher: { id: 'byName' as const, options: name },
      properties: columnProperties(column),
    })),
  },
  options: { cellHeight: 'sm', frameIndex: 0, showHeader: true },
});

// A row title and its panels.
export interface Section {
  title: string;
  panels: AnyPanel[];
}

// Places panels from left to right until a line is full, and assigns ids in this order.
function layOut(sections: Section[]): (AnyPanel | Row)[] {
  const positioned: (AnyPanel | Row)[] = [];
  let y = 0;
  for (const { title, panels } of sections) {
    positioned.push({ id: positioned.length + 1, type: 'row', title, collapsed: false, gridPos: { x: 0, y, w: GRID_WIDTH, h: 1 }, panels: [] });
    y += 1;
    let x = 0;
    let height = 0;
    for (const panel of panels) {
      const { w, h } = panel.gridPos;
      if (x + w > GRID_WIDTH) {
        [x, y, height] = [0, y + height, 0];
      }
      positioned.push({ ...panel, id: positioned.length + 1, gridPos: { x, y, w, h } });
      x += w;
      height = Math.max(height, h);
    }
    y += height;
  }
  return positioned;
}

// A dashboard with its sections from top to bottom.
export const dashboard = (options: {
  uid: string;
  title: string;
  description: string;
  refresh: string;
  from: string;
  to: string;
  variables: Variable[];
  sections: Section[];
}): MillraceDashboard => ({
  uid: options.uid,
  title: options.title,
  description: options.description,
  tags: ['millrace'],
  timezone: 'utc',
  schemaVersion: 41,
  version: 1,
  editable: false,
  graphTooltip: 1,
  refresh: options.refresh,
  time: { from: options.from, to: options.to },
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
  templating: { list: [...COMMON, ...options.variables] },
  annotations: { list: [] },
  panels: layOut(options.sections),
});
