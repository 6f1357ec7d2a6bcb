// The types of a dashboard, from the types that Grafana publishes. `@grafana/schema` accepts any options for
// a panel, because plugins can add panels. The types here accept four kinds of panels, each with the options
// of its plugin.

import type { Dashboard, FieldConfig, Panel, RowPanel } from '@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen.js';
import type { Options as BarGaugeOptions } from '@grafana/schema/dist/types/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen.js';
import type { Options as StatOptions } from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.js';
import type { FieldConfig as TableField, Options as TableOptions } from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.js';
import type { FieldConfig as TimeSeriesField, Options as TimeSeriesOptions } from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js';

// The JSON form of a type: an enum becomes a union of its values.
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

// The fields of queries that these dashboards use. `@grafana/schema` does not contain the types of queries.
export interface PrometheusQuery {
  refId: string;
  datasource: { type: 'prometheus'; uid: '${prometheus}' };
  editorMode: 'code';
  expr: string;
  // Minimum time between two points.
  interval?: string;
  legendFormat: string;
  // Exactly one of `range` (values over time) and `instant` (one value) is true.
  range: boolean;
  instant: boolean;
  // A table has one row for each series.
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

// A panel of one kind. Title, description and data source are required.
type PanelOf<Type extends string, Options, Custom> = Omit<
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

export type StatPanel = PanelOf<'stat', StatOptions, Record<never, never>>;
export type TimeSeriesPanel = PanelOf<'timeseries', TimeSeriesOptions, TimeSeriesField>;
export type BarGaugePanel = PanelOf<'bargauge', BarGaugeOptions, Record<never, never>>;
export type TablePanel = PanelOf<'table', TableOptions, TableField>;
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
