// Converts query results to the data frames that Grafana's components draw. Implements the part of Grafana's
// data sources and field overrides that these dashboards use.

import { FieldType, createDataFrame, getDisplayProcessor } from '@grafana/data';

const NUMBERS = ['int2', 'int4', 'int8', 'numeric', 'float4', 'float8'];

const makeField = (name, type, values, labels) => ({ name, type, values, config: {}, ...(labels ? { labels } : {}) });

// Replaces `{{label}}` in a legend format by the value of the label.
const formatLegend = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');

function prometheusSeries(target, series) {
  return series.map(({ labels, samples }) => {
    const value = makeField('Value', FieldType.number, samples.map(([, value]) => (value === 'NaN' ? null : Number(value))), labels);
    value.config.displayNameFromDS = formatLegend(target.legendFormat, labels);
    return createDataFrame({ refId: target.refId, fields: [makeField('Time', FieldType.time, samples.map(([time]) => time * 1000)), value] });
  });
}

// One row for each series, like the table format of Grafana's Prometheus data source.
function prometheusTable(series) {
  const names = [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))].sort();
  return [createDataFrame({ fields: names.map((name) => makeField(name, FieldType.string, series.map(({ labels }) => labels[name] ?? ''))) })];
}

function parseCell(type, text) {
  if (text === null) return null;
  if (NUMBERS.includes(type)) return Number(text);
  return type.startsWith('timestamp') ? Date.parse(text.replace(' ', 'T').replace(/\+00$/, 'Z')) : text;
}

function sqlTable({ columns, rows }) {
  const fieldType = (type) =>
    NUMBERS.includes(type) ? FieldType.number : type.startsWith('timestamp') ? FieldType.time : FieldType.string;
  return [createDataFrame({
    fields: columns.map(({ name, type }, index) => makeField(name, fieldType(type), rows.map((row) => parseCell(type, row[index])))),
  })];
}

// Rows with the columns time, metric and value become one series for each metric.
function sqlSeries(answer) {
  const column = Object.fromEntries(answer.columns.map(({ name }, index) => [name, index]));
  const timeType = answer.columns[column.time].type;
  const time = (text) => (NUMBERS.includes(timeType) ? Number(text) * 1000 : parseCell(timeType, text));
  const metrics = Map.groupBy ? Map.groupBy(answer.rows, (row) => row[column.metric]) : new Map();
  return [...metrics].map(([metric, rows]) => {
    const value = makeField(metric, FieldType.number, rows.map((row) => Number(row[column.value])));
    value.config.displayNameFromDS = metric;
    return createDataFrame({ fields: [makeField('Time', FieldType.time, rows.map((row) => time(row[column.time]))), value] });
  });
}

export function framesOf(panel, answers) {
  return panel.targets.flatMap((target, index) => {
    const answer = answers[index];
    if (answer.series) return target.format === 'table' ? prometheusTable(answer.series) : prometheusSeries(target, answer.series);
    return target.format === 'time_series' ? sqlSeries(answer) : sqlTable(answer);
  });
}

const matches = ({ id, options }, name) => {
  const [, pattern, flags] = id === 'byRegexp' ? options.match(/^\/(.*)\/(\w*)$/) ?? [null, options, ''] : [];
  return id === 'byRegexp' ? new RegExp(pattern, flags).test(name) : options === name;
};

// Applies the panel's defaults and overrides to every field, and adds the formatting of its values.
export function applyFieldConfig(panel, frames, theme) {
  const numbers = frames.flatMap(({ fields }) => fields).filter(({ type }) => type === FieldType.number);
  const all = numbers.flatMap(({ values }) => values).filter((value) => Number.isFinite(value));
  let seriesIndex = 0;
  for (const field of frames.flatMap(({ fields }) => fields)) {
    const { defaults, overrides } = panel.fieldConfig;
    const config = { ...structuredClone(defaults), ...field.config, custom: structuredClone(defaults.custom ?? {}) };
    const name = config.displayNameFromDS ?? field.name;
    for (const { matcher, properties } of overrides.filter(({ matcher }) => matches(matcher, name))) {
      for (const { id, value } of properties) {
        if (id.startsWith('custom.')) config.custom[id.slice('custom.'.length)] = value;
        else config[id] = value;
      }
    }
    if (panel.type === 'bargauge') config.max ??= Math.max(...all, 1);
    if (field.type !== FieldType.number && config.unit !== 'dateTimeAsIso') delete config.unit;
    field.config = config;
    field.state = { seriesIndex: field.type === FieldType.number ? seriesIndex++ : 0, displayName: name };
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  }
  return frames;
}
