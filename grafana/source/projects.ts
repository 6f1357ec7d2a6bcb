// Shows usage, quotas, and events that were not stored, by project. The data comes from PostgreSQL, through a
// role that can read nothing secret, because no metric has the project as a label.

import {
  bargauge, dashboard, instantQuery, levels, rangeQuery, sqlTable, sqlTimeSeries, stat, table, timeseries, zeroAs,
} from './panels.js';
import { INSTANCE, PROJECT, intervals } from './variables.js';

const SELECTED = 'instance=~"$instance"';
const SELECTED_PROJECTS = 'project_id IN (${project:csv})';
// Quotas are per calendar month in UTC.
const MONTH = "date_trunc('month', now(), 'UTC')";
const NEXT_MONTH = `date_trunc('month', ${MONTH} + interval '32 days', 'UTC')`;
// Events stored by a redrive do not count towards the quota.
const QUOTA_USED = 'sum(events - redriven)';
// Hours that overlap the selected time range.
const SHOWN_HOURS = "hour BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()";
const QUOTA_LEVELS = levels(0.8, 1);

// `month` has the start and the end of this month. `quota_use` has each selected project with its plan, its
// usage of this month, and the usage that is projected for the whole month.
const QUOTA_USE = `
WITH month AS (
  SELECT ${MONTH} AS start, ${NEXT_MONTH} AS finish
), used AS (
  SELECT project_id, ${QUOTA_USED} AS events, sum(bytes) AS bytes, sum(duplicates) AS duplicates, sum(dead) AS dead
    FROM usage_hourly, month WHERE hour >= month.start GROUP BY project_id
), quota_use AS (
  SELECT projects.project_id, projects.name, projects.plan, plans.requests_per_minute, plans.events_per_month AS quota,
         coalesce(used.events, 0) AS used, coalesce(used.bytes, 0) AS bytes, coalesce(used.duplicates, 0) AS duplicates,
         coalesce(used.dead, 0) AS dead,
         coalesce(used.events, 0) / extract(epoch FROM greatest(now() - month.start, interval '1 hour'))
           * extract(epoch FROM month.finish - month.start) AS projected
    FROM projects JOIN plans ON plans.name = projects.plan CROSS JOIN month LEFT JOIN used USING (project_id)
   WHERE ${SELECTED_PROJECTS}
)`.trim();

export const projects = dashboard({
  uid: 'millrace-projects',
  title: 'Millrace: projects',
  description: 'Usage, quotas, and events that were not stored, by project',
  refresh: '1m',
  from: 'now/M',
  to: 'now/M',
  variables: [PROJECT, INSTANCE, intervals('Time covered by each point or bar', ['1h', '6h', '1d'])],
  sections: [
    {
      title: 'This month (UTC)',
      panels: [
        stat({
          title: 'Projects',
          description: 'Number of selected projects.',
          unit: 'short',
          sparkline: false,
          targets: [sqlTable(`SELECT count(*) AS projects FROM projects WHERE ${SELECTED_PROJECTS}`)],
        }),
        stat({
          title: 'Events this month',
          description: 'Events stored since the start of the month, without duplicates, dead letters and cancelled events.',
          unit: 'short',
          sparkline: false,
          targets: [sqlTable(`SELECT coalesce(sum(events - cancelled), 0) AS events FROM usage_hourly WHERE hour >= ${MONTH} AND ${SELECTED_PROJECTS}`)],
        }),
        stat({
          title: 'Bytes this month',
          description: 'Size of the stored rows in the format of COPY.',
          unit: 'bytes',
          sparkline: false,
          targets: [sqlTable(`SELECT coalesce(sum(bytes), 0) AS bytes FROM usage_hourly WHERE hour >= ${MONTH} AND ${SELECTED_PROJECTS}`)],
        }),
        stat({
          title: 'Near their quota',
          description: 'Projects that have used at least 80% of their monthly quota.',
          unit: 'short',
          runbook: 'quota',
          thresholds: levels(1, 1000),
          mappings: zeroAs('None'),
          sparkline: false,
          targets: [sqlTable(`${QUOTA_USE}\nSELECT count(*) AS projects FROM quota_use WHERE used >= 0.8 * quota`)],
        }),
        stat({
          title: 'Projected over quota',
          description: 'Projects that will exceed their quota before the end of the month, at their average rate so far.',
          unit: 'short',
          runbook: 'quota',
          thresholds: levels(1, 1000),
          mappings: zeroAs('None'),
          sparkline: false,
          targets: [sqlTable(`${QUOTA_USE}\nSELECT count(*) AS projects FROM quota_use WHERE projected > quota`)],
        }),
        stat({
          title: 'Dead letters waiting',
          description: 'All events that PostgreSQL refused and that were not redriven yet.',
          unit: 'short',
          runbook: 'dead-letters',
          thresholds: levels(1, 1000),
          mappings: zeroAs('None'),
          sparkline: false,
          targets: [
            sqlTable(`SELECT coalesce(sum(event_count), 0) AS events FROM dead_letters WHERE redriven_at IS NULL AND ${SELECTED_PROJECTS}`),
          ],
        }),
        table({
          title: 'Usage and limits',
          description: 'This month so far. "At its end" is the projected share of the quota at the end of the month; empty without a quota.',
          unit: 'short',
          runbook: 'quota',
          h: 9,
          columns: {
            'used of quota': { unit: 'percentunit', cell: 'bar', max: 1, thresholds: QUOTA_LEVELS, decimals: 1 },
            'at its end': { unit: 'percentunit', cell: 'colored', thresholds: QUOTA_LEVELS, decimals: 0, width: 110 },
            project: { width: 200 },
            plan: { width: 110 },
            'requests/min': { width: 110 },
            quota: { width: 100 },
            stored: { width: 100 },
            bytes: { unit: 'bytes', width: 110 },
            duplicates: { width: 100 },
            dead: { width: 80 },
          },
          targets: [
            sqlTable(`
${QUOTA_USE}
SELECT name AS project, plan, requests_per_minute AS "requests/min", quota, used AS stored,
       used / quota::numeric AS "used of quota", projected / quota AS "at its end", bytes, duplicates, dead
  FROM quota_use ORDER BY used / quota::numeric DESC NULLS LAST, used DESC LIMIT 200`),
          ],
        }),
      ],
    },
    {
      title: 'Quota',
      panels: [
        timeseries({
          title: 'Quota burn-down',
          description:
            'Remaining share of the monthly quota, for projects with a quota. Dashed: projection at the average rate so far.',
          unit: 'percentunit',
          max: 1,
          runbook: 'quota',
          w: 16,
          h: 10,
          dashed: '/projected/',
          targets: [
            sqlTimeSeries(`
${QUOTA_USE}, hours AS (
  SELECT name, hour, (events - redriven) / quota::numeric AS used,
         sum(events - redriven) OVER (PARTITION BY project_id ORDER BY hour) / quota AS used_until
    FROM usage_hourly JOIN quota_use USING (project_id), month
   WHERE quota IS NOT NULL AND hour >= month.start
)
SELECT start AS time, name AS metric, 1.0 AS value FROM quota_use, month WHERE quota IS NOT NULL
UNION ALL SELECT hour, name, greatest(1 - used_until + used, 0) FROM hours
UNION ALL SELECT least(hour + interval '1 hour', now()), name, greatest(1 - used_until, 0) FROM hours
UNION ALL SELECT now(), name, greatest(1 - used / quota::numeric, 0) FROM quota_use WHERE quota IS NOT NULL
ORDER BY time`),
            sqlTimeSeries(`
${QUOTA_USE}
SELECT now() AS time, name || ' projected' AS metric, greatest(1 - used / quota::numeric, 0) AS value
  FROM quota_use WHERE quota IS NOT NULL
UNION ALL
SELECT start + least(finish - start, greatest(now() - start, (finish - start) * (quota / greatest(projected, 1))::float8)),
       name || ' projected', greatest(1 - projected / quota, 0)
  FROM quota_use, month WHERE quota IS NOT NULL
ORDER BY time`),
          ],
        }),
        bargauge({
          title: 'Highest quota use',
          description: 'Used share of the monthly quota.',
          unit: 'percentunit',
          runbook: 'quota',
          w: 8,
          h: 10,
          max: 1,
          thresholds: QUOTA_LEVELS,
          fields: true,
          targets: [
            sqlTable(`${QUOTA_USE}\nSELECT name AS project, used / quota::numeric AS used FROM quota_use WHERE quota IS NOT NULL ORDER BY used DESC LIMIT 10`),
          ],
        }),
      ],
    },
    {
      title: 'Usage',
      panels: [
        timeseries({
          title: 'Events stored',
          description: 'Events per interval, without cancelled events, for the ten projects with most events in the selected time range.',
          unit: 'short',
          stacked: true,
          bars: true,
          targets: [
            sqlTimeSeries(`
WITH top AS (
  SELECT project_id FROM usage_hourly WHERE ${SHOWN_HOURS} AND ${SELECTED_PROJECTS}
   GROUP BY project_id ORDER BY sum(events - cancelled) DESC LIMIT 10
)
SELECT $__timeGroupAlias(hour, '$interval'), name AS metric, sum(events - cancelled) AS value
  FROM usage_hourly JOIN top USING (project_id) JOIN projects USING (project_id)
 WHERE ${SHOWN_HOURS} GROUP BY 1, 2 ORDER BY 1`),
          ],
        }),
        bargauge({
          title: 'Top projects',
          description: 'Events stored in the selected time range and not cancelled.',
          unit: 'short',
          fields: true,
          targets: [
            sqlTable(`
SELECT name AS project, sum(events - cancelled) AS events FROM usage_hourly JOIN projects USING (project_id)
 WHERE ${SHOWN_HOURS} AND ${SELECTED_PROJECTS} GROUP BY name ORDER BY events DESC LIMIT 10`),
          ],
        }),
        timeseries({
          title: 'Duplicates',
          description: 'Share of the events of a project that were stored before. A high share means that a client retries too early.',
          unit: 'percentunit',
          targets: [
            sqlTimeSeries(`
SELECT $__timeGroupAlias(hour, '$interval'), name AS metric,
       sum(duplicates)::float8 / greatest(sum(events + duplicates + dead), 1) AS value
  FROM usage_hourly JOIN projects USING (project_id)
 WHERE ${SHOWN_HOURS} AND ${SELECTED_PROJECTS} GROUP BY 1, 2 HAVING sum(duplicates) > 0 ORDER BY 1`),
          ],
        }),
        timeseries({
          title: 'Bytes per event',
          description: 'Mean size of a stored row, by project.',
          unit: 'bytes',
          targets: [
            sqlTimeSeries(`
SELECT $__timeGroupAlias(hour, '$interval'), name AS metric, sum(bytes)::float8 / sum(events) AS value
  FROM usage_hourly JOIN projects USING (project_id)
 WHERE ${SHOWN_HOURS} AND ${SELECTED_PROJECTS} GROUP BY 1, 2 HAVING sum(events) > 0 ORDER BY 1`),
          ],
        }),
      ],
    },
    {
      title: 'Refused and dead-lettered',
      panels: [
        bargauge({
          title: 'Refusals by reason',
          description: 'Refused requests of all projects in the selected time range. "millrace rejections" shows them by project.',
          unit: 'short',
          runbook: 'errors',
          targets: [
            instantQuery('{{code}}', `sort_desc(sum by (code) (increase(millrace_http_refusals_total{${SELECTED}}[$__range])) > 0)`),
          ],
        }),
        bargauge({
          title: 'Refused events by reason',
          description: 'Events that the validator refused in the selected time range. "millrace rejections" shows them by project, with samples.',
          runbook: 'events-refused',
          unit: 'short',
          targets: [
            instantQuery('{{code}}', `sort_desc(sum by (code) (increase(millrace_refused_events_total{${SELECTED}}[$__range])) > 0)`),
          ],
        }),
        table({
          title: 'Dead letters',
          description: 'Accepted events that PostgreSQL refused in the selected time range. "millrace dead-letters redrive" tries to store them.',
          unit: 'short',
          w: 24,
          h: 7,
          runbook: 'dead-letters',
          noValue: 'none',
          columns: {
            project: { width: 180 },
            sqlstate: { width: 90 },
            events: { width: 90 },
            waiting: { width: 90 },
            newest: { unit: 'dateTimeAsIso', width: 170 },
          },
          targets: [
            sqlTable(`
SELECT coalesce(name, 'project ' || project_id) AS project, sqlstate, left(reason, 200) AS reason,
       sum(event_count) AS events, sum(event_count) FILTER (WHERE redriven_at IS NULL) AS waiting, max(dead_letters.created_at) AS newest
  FROM dead_letters LEFT JOIN projects USING (project_id)
 WHERE $__timeFilter(dead_letters.created_at) AND ${SELECTED_PROJECTS} GROUP BY 1, 2, 3 ORDER BY events DESC LIMIT 50`),
          ],
        }),
        timeseries({
          title: 'Dead letters over time',
          description: 'Events that PostgreSQL refused, by project.',
          unit: 'short',
          w: 12,
          bars: true,
          stacked: true,
          runbook: 'dead-letters',
          targets: [
            sqlTimeSeries(`
SELECT $__timeGroupAlias(dead_letters.created_at, '$interval'), coalesce(name, 'project ' || project_id) AS metric, sum(event_count) AS value
  FROM dead_letters LEFT JOIN projects USING (project_id)
 WHERE $__timeFilter(dead_letters.created_at) AND ${SELECTED_PROJECTS} GROUP BY 1, 2 ORDER BY 1`),
          ],
        }),
        timeseries({
          title: 'Refusals over time',
          description: 'Requests of all projects that were refused because of a limit of their plan.',
          unit: 'reqps',
          w: 12,
          colors: { rate_limited: 'yellow', quota_exceeded: 'purple' },
          targets: [
            rangeQuery('{{code}}', `sum by (code) (rate(millrace_http_refusals_total{${SELECTED},code=~"rate_limited|quota_exceeded|too_many_events"}[$__rate_interval]))`),
          ],
        }),
        table({
          title: 'Redrives',
          description: 'Each redrive of dead letters: its start, its user, and the results.',
          unit: 'short',
          w: 24,
          h: 6,
          runbook: 'dead-letters',
          noValue: 'none',
          columns: { started: { unit: 'dateTimeAsIso', width: 170 }, filter: { width: 400 } },
          targets: [
            sqlTable(`
SELECT started_at AS started, os_user AS by, filter, letters, stored, duplicate, refused
  FROM redrives WHERE $__timeFilter(started_at) ORDER BY started_at DESC LIMIT 20`),
          ],
        }),
      ],
    },
    {
      title: 'Conservation',
      panels: [
        table({
          title: 'Conservation by project',
          description:
            'Ledger and usage of today (UTC). Both are written in one transaction, so "lost" and "not metered" must always be 0.',
          unit: 'short',
          runbook: 'conservation',
          columns: {
            project: { width: 220 },
            lost: { cell: 'colored', thresholds: levels(1, 1), width: 90 },
            'not metered': { cell: 'colored', thresholds: levels(1, 1), width: 120 },
          },
          targets: [
            sqlTable(`
WITH day AS (
  SELECT date_trunc('day', now(), 'UTC') AS start
), written AS (
  SELECT project_id, count(*) AS batches, sum(accepted) AS accepted, sum(stored) AS stored, sum(duplicate) AS duplicate, sum(dead) AS dead
    FROM ledger, day WHERE received_at >= day.start AND ${SELECTED_PROJECTS} GROUP BY project_id
), meter AS (
  SELECT project_id, sum(events) AS events, sum(duplicates) AS duplicates, sum(dead) AS dead
    FROM usage_hourly, day WHERE hour >= day.start AND ${SELECTED_PROJECTS} GROUP BY project_id
)
SELECT name AS project, batches, written.accepted, written.stored, written.duplicate, written.dead,
       abs(written.accepted - written.stored - written.duplicate - written.dead) AS lost,
       abs(written.stored - coalesce(meter.events, 0)) + abs(written.duplicate - coalesce(meter.duplicates, 0))
         + abs(written.dead - coalesce(meter.dead, 0)) AS "not metered"
  FROM written LEFT JOIN meter USING (project_id) JOIN projects USING (project_id)
 ORDER BY written.accepted DESC LIMIT 200`),
          ],
        }),
      ],
    },
  ],
});
