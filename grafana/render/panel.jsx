// Draws one panel with Grafana's component for its kind.

import { FieldType, dateTime, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, PanelChrome, Table, TimeSeries, measureText, useTheme2 } from '@grafana/ui';
import { applyFieldConfig, framesOf } from './frames.js';

const GAP = 8;
const TEXT_SIZE = 13;
const MIN_RANGE_S = 5.5 * 60 * 60;

function timeRange({ from, to }) {
  const range = { from: dateTime(from * 1000), to: dateTime(to * 1000) };
  return { ...range, raw: range };
}

// Hourly data from PostgreSQL is drawn from its first to its last point with a margin, and at least 5.5 hours.
// A label of the axis is cut off at the edge, so no edge may be at a full hour or day.
function drawnRange(frames, range, isSql) {
  if (!isSql) return timeRange(range);
  const times = frames.flatMap(({ fields }) => fields.filter(({ type }) => type === FieldType.time)).flatMap(({ values }) => values);
  const [first, last] = [Math.min(...times) / 1000, Math.max(...times) / 1000];
  const margin = Math.max(0.03 * (last - first), (MIN_RANGE_S - (last - first)) / 2);
  return timeRange({ from: first - margin, to: last + margin });
}

const displayValues = (panel, frames, theme, sparkline) =>
  getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text) => text,
    sparkline,
    theme,
    timeZone: 'utc',
  });

function Stat({ panel, frames, range, width, height }) {
  const theme = useTheme2();
  const [value] = displayValues(panel, frames, theme, panel.options.graphMode !== 'none');
  if (value?.sparkline) value.sparkline.timeRange = timeRange(range);
  const { colorMode, graphMode, justifyMode, textMode } = panel.options;
  const noValue = { text: panel.fieldConfig.defaults.noValue, numeric: NaN };
  return (
    <BigValue
      {...{ theme, width, height, colorMode, graphMode, justifyMode }}
      textMode={textMode === 'auto' ? 'value' : textMode}
      value={value?.display ?? noValue}
      sparkline={value?.sparkline}
    />
  );
}

function Bars({ panel, frames, width, height }) {
  const theme = useTheme2();
  const values = displayValues(panel, frames, theme, false);
  const { maxVizHeight, minVizHeight, displayMode, orientation, showUnfilled, valueMode, namePlacement } = panel.options;
  // Grafana reserves room for the title with the most letters, but another one may be wider.
  const titleWidth = ({ title }) => measureText(title ?? '', TEXT_SIZE).width;
  const widest = values.map(({ display }) => display).sort((a, b) => titleWidth(b) - titleWidth(a))[0];
  const alignmentFactors = { ...getDisplayValueAlignmentFactors(values), title: widest?.title ?? '' };
  const barHeight = Math.max(minVizHeight, Math.min(maxVizHeight, height / values.length - GAP));
  return values.map(({ display, field, view, colIndex }, index) => (
    <div key={index} style={{ marginBottom: GAP }}>
      <BarGauge
        {...{ theme, width, displayMode, orientation, showUnfilled, namePlacement }}
        height={barHeight}
        value={display}
        field={field}
        display={view?.getFieldDisplayProcessor(colIndex)}
        valueDisplayMode={valueMode}
        text={{ titleSize: TEXT_SIZE, valueSize: TEXT_SIZE }}
        alignmentFactors={alignmentFactors}
        isOverflow={false}
      />
    </div>
  ));
}

function PanelContent({ panel, answers, range, width, height }) {
  const theme = useTheme2();
  const frames = applyFieldConfig(panel, framesOf(panel, answers), theme);
  if (frames.every(({ length }) => length === 0)) {
    return <div style={{ textAlign: 'center', paddingTop: height / 3 }}>{panel.fieldConfig.defaults.noValue || 'No data'}</div>;
  }
  switch (panel.type) {
    case 'stat':
      return <Stat {...{ panel, frames, range, width, height }} />;
    case 'bargauge':
      return <Bars {...{ panel, frames, width, height }} />;
    case 'table': {
      const [frame] = frames;
      frame.fields = frame.fields.filter(({ config }) => !config.custom.hidden);
      return <Table data={frame} width={width} height={height} cellHeight="sm" />;
    }
    case 'timeseries': {
      for (const field of frames.flatMap(({ fields }) => fields).filter(({ type }) => type === FieldType.time)) {
        field.config = { custom: {} };
      }
      return (
        <TimeSeries
          {...{ frames, width, height }}
          timeRange={drawnRange(frames, range, panel.targets[0].rawSql !== undefined)}
          timeZone="utc"
          legend={panel.options.legend}
          options={panel.options}
          structureRev={1}
        />
      );
    }
    default:
      throw new Error(`cannot draw a panel of type ${panel.type}`);
  }
}

export function Panel({ panel, answers, range, width, height }) {
  return (
    <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
      {(innerWidth, innerHeight) => <PanelContent {...{ panel, answers, range }} width={innerWidth} height={innerHeight} />}
    </PanelChrome>
  );
}
