// What a dashboard may be, from Grafana's own published types. `@grafana/schema` leaves the options of a panel open, because
// any plugin may draw it; here each kind of panel is held to the options of its own plugin, and nothing else passes.

import type { Dashboard, FieldConfig, Panel, RowPanel } from '@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen.js';
import type { Options as BarGaugeOptions } from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen.js';
import type { Options as StatOptions } from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.js';
import type { FieldConfig as TableField, Options as TableOptions } from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.js';
import type { FieldConfig as TimeSeriesField, Options as TimeSeriesOptions } from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js';

// A type as JSON can spell it: an enumeration is one of its values, written out.
export type Json<T> = T extends string
  ? `${T}`
  : T extends number
    ? `${T}` extends `${infer N extends number}` ? N : T
    : T extends boolean | null | undefined
      ? T
      : T extends Array<infer Item>
        ? Json<Item>[]
        : T extends object
          ? { [Key in keyof T]: Json<T[Key]> }
          : T;

type Source = { type: 'prometheus'; uid: '${prometheus}' } | { type: 'grafana-postgresql-datasource'; uid: '${postgres}' };

// The fields of the two data sources' queries that we use. Grafana publishes these types with the plugins, not here.
export interface PrometheusQuery {
  refId: string;
  datasource: { type: 'prometheus'; uid: '${prometheus}' };
  editorMode: 'code';
  expr: string;
  // The least step between two points.
  interval?: string;
  legendFormat: string;
  // A range for a course, an instant for a figure.
  range: boolean;
  instant: boolean;
  // A table takes one row for each series.
  format?: 'time_series' | 'table';
}

export interface SqlQuery {
  refId: string;
  datasource: { type: 'grafana-postgresql-datasource'; uid: '${postgres}' };
  editorMode: 'code';
  format: 'table' | 'time_series';
  rawQuery: true;
  rawSql: string;
}

export type Query = PrometheusQuery | SqlQuery;

type Field<Custom> = Omit<Json<FieldConfig>, 'custom'> & { custom?: Partial<Json<Custom>> };

type Override = { matcher: { id: 'byName' | 'byRegexp'; options: string }; properties: { id: string; value: unknown }[] };

// Whatever we draw says what it is, of what unit, and where to read on.
type Drawn<Type extends string, Options, Custom> = Omit<
  Json<Panel>,
  'type' | 'title' | 'description' | 'datasource' | 'options' | 'fieldConfig' | 'targets' | 'id' | 'gridPos'
> & {
  id: number;
  type: Type;
  title: string;
  description: string;
  datasource: Source;
  gridPos: { x: number; y: number; w: number; h: number };
  options: Json<Options>;
  fieldConfig: { defaults: Field<Custom>; overrides: Override[] };
  targets: Query[];
};

export type StatPanel = Drawn<'stat', StatOptions, Record<never, never>>;
export type TimeSeriesPanel = Drawn<'timeseries', TimeSeriesOptions, TimeSeriesField>;
export type BarGaugePanel = Drawn<'bargauge', BarGaugeOptions, Record<never, never>>;
export type TablePanel = Drawn<'table', TableOptions, TableField>;
export type AnyPanel = StatPanel | TimeSeriesPanel | BarGaugePanel | TablePanel;

export type Row = Omit<Json<RowPanel>, 'panels'> & { panels: [] };

export type Thresholds = NonNullable<Json<FieldConfig>['thresholds']>;
export type Mappings = NonNullable<Json<FieldConfig>['mappings']>;
export type Link = NonNullable<Json<Dashboard>['links']>[number];
type AnyVariable = NonNullable<NonNullable<Json<Dashboard>['templating']>['list']>[number];
export type Variable = Omit<AnyVariable, 'datasource'> & { datasource?: Source };

export type MillraceDashboard = Omit<Json<Dashboard>, 'panels' | 'templating'> & {
  panels: (AnyPanel | Row)[];
  templating: { list: Variable[] };
};
