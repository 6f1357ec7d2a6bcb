// From what was answered to the frames that Grafana's components draw: what its data sources and its field overrides do, for
// as much of it as our dashboards use.

import { FieldType, createDataFrame, getDisplayProcessor } from '@grafana/data';

const NUMBERS = ['int2', 'int4', 'int8', 'numeric', 'float4', 'float8'];

const named = (name, type, values, labels) => ({ name, type, values, config: {}, ...(labels ? { labels } : {}) });

// `{{label}}` in a legend is the label's value.
const legend = (format, labels) => format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');

function courses(target, series) {
  return series.map(({ labels, samples }) => {
    const value = named('Value', FieldType.number, samples.map(([, value]) => (value === 'NaN' ? null : Number(value))), labels);
    value.config.displayNameFromDS = legend(target.legendFormat, labels);
    return createDataFrame({ refId: target.refId, fields: [named('Time', FieldType.time, samples.map(([time]) => time * 1000)), value] });
  });
}

// One row for each series, as Prometheus' source makes a table.
function table(series) {
  const names = [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))].sort();
  return [createDataFrame({ fields: names.map((name) => named(name, FieldType.string, series.map(({ labels }) => labels[name] ?? ''))) })];
}

function cell(type, text) {
  if (text === null) return null;
  if (NUMBERS.includes(type)) return Number(text);
  return type.startsWith('timestamp') ? Date.parse(text.replace(' ', 'T').replace(/\+00$/, 'Z')) : text;
}

function rows({ columns, rows }) {
  const fieldType = (type) =>
    NUMBERS.includes(type) ? FieldType.number : type.startsWith('timestamp') ? FieldType.time : FieldType.string;
  return [createDataFrame({
    fields: columns.map(({ name, type }, at) => named(name, fieldType(type), rows.map((row) => cell(type, row[at])))),
  })];
}

// Columns time, metric and value become a series for each metric.
function sqlCourses(answer) {
  const at = Object.fromEntries(answer.columns.map(({ name }, at) => [name, at]));
  const timeType = answer.columns[at.time].type;
  const time = (text) => (NUMBERS.includes(timeType) ? Number(text) * 1000 : cell(timeType, text));
  const metrics = Map.groupBy ? Map.groupBy(answer.rows, (row) => row[at.metric]) : new Map();
  return [...metrics].map(([metric, rows]) => {
    const value = named(metric, FieldType.number, rows.map((row) => Number(row[at.value])));
    value.config.displayNameFromDS = metric;
    return createDataFrame({ fields: [named('Time', FieldType.time, rows.map((row) => time(row[at.time]))), value] });
  });
}

export function framesOf(panel, answers) {
  return panel.targets.flatMap((target, at) => {
    const answer = answers[at];
    if (answer.series) return target.format === 'table' ? table(answer.series) : courses(target, answer.series);
    return target.format === 'time_series' ? sqlCourses(answer) : rows(answer);
  });
}

const matches = ({ id, options }, name) => {
  const [, pattern, flags] = id === 'byRegexp' ? options.match(/^\/(.*)\/(\w*)$/) ?? [null, options, ''] : [];
  return id === 'byRegexp' ? new RegExp(pattern, flags).test(name) : options === name;
};

// The panel's defaults and overrides on every field, and how its values are written.
export function dress(panel, frames, theme) {
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
