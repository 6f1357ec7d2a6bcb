// Who uses how much, who is near the limit, and what was not stored. From PostgreSQL, asked as a role that can read nothing
// secret; Prometheus knows no projects.

import {
  bargauge, course, dashboard, instant, levels, none, rows, series, stat, table, timeseries,
} from './kit.js';
import { INSTANCE, PROJECT, intervals } from './variables.js';

const I = 'instance=~"$instance"';
const CHOSEN = 'project_id IN (${project:csv})';
// Quotas are counted by months of UTC.
const MONTH = "date_trunc('month', now(), 'UTC')";
const NEXT_MONTH = `date_trunc('month', ${MONTH} + interval '32 days', 'UTC')`;
// What a redrive has stored uses up no quota.
const USED = 'sum(events - redriven)';
// Hours of which at least a part is in the time shown.
const IN_SIGHT = "hour BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()";
const QUOTA_LEVELS = levels(0.8, 1);

// Each chosen project with its plan, what it has used of this month, and how much of the month is over.
const STANDING = `
WITH month AS (
  SELECT ${MONTH} AS start, ${NEXT_MONTH} AS finish
), used AS (
  SELECT project_id, ${USED} AS events, sum(bytes) AS bytes, sum(duplicates) AS duplicates, sum(dead) AS dead
    FROM usage_hourly, month WHERE hour >= month.start GROUP BY project_id
), standing AS (
  SELECT projects.project_id, projects.name, projects.plan, plans.requests_per_minute, plans.events_per_month AS quota,
         coalesce(used.events, 0) AS used, coalesce(used.bytes, 0) AS bytes, coalesce(used.duplicates, 0) AS duplicates,
         coalesce(used.dead, 0) AS dead,
         coalesce(used.events, 0) / extract(epoch FROM greatest(now() - month.start, interval '1 hour'))
           * extract(epoch FROM month.finish - month.start) AS projected
    FROM projects JOIN plans ON plans.name = projects.plan CROSS JOIN month LEFT JOIN used USING (project_id)
   WHERE ${CHOSEN}
)`.trim();

export const projects = dashboard({
  uid: 'millrace-projects',
  title: 'Millrace: projects',
  description: 'Who uses how much, who is near the limit, and what was not stored',
  refresh: '1m',
  from: 'now/M',
  to: 'now/M',
  variables: [PROJECT, INSTANCE, intervals('What is counted together in the courses', ['1h', '6h', '1d'])],
  sections: [
    {
      title: 'This month (UTC)',
      panels: [
        stat({
          title: 'Projects',
          description: 'Projects chosen above.',
          unit: 'short',
          sparkline: false,
          targets: [rows(`SELECT count(*) AS projects FROM projects WHERE ${CHOSEN}`)],
        }),
        stat({
          title: 'Events this month',
          description: 'Events stored since the month began, duplicates and dead letters not counted.',
          unit: 'short',
          sparkline: false,
          targets: [rows(`SELECT coalesce(sum(events), 0) AS events FROM usage_hourly WHERE hour >= ${MONTH} AND ${CHOSEN}`)],
        }),
        stat({
          title: 'Bytes this month',
          description: 'Of the rows stored, as they are copied into PostgreSQL.',
          unit: 'bytes',
          sparkline: false,
          targets: [rows(`SELECT coalesce(sum(bytes), 0) AS bytes FROM usage_hourly WHERE hour >= ${MONTH} AND ${CHOSEN}`)],
        }),
        stat({
          title: 'Near their quota',
          description: 'Projects that have used 80 % of their month or more.',
          unit: 'short',
          runbook: 'quota',
          thresholds: levels(1, 1000),
          mappings: none('None'),
          sparkline: false,
          targets: [rows(`${STANDING}\nSELECT count(*) AS projects FROM standing WHERE used >= 0.8 * quota`)],
        }),
        stat({
          title: 'Will run out',
          description: 'Projects whose quota ends before the month does, if they go on as they have since it began.',
          unit: 'short',
          runbook: 'quota',
          thresholds: levels(1, 1000),
          mappings: none('None'),
          sparkline: false,
          targets: [rows(`${STANDING}\nSELECT count(*) AS projects FROM standing WHERE projected > quota`)],
        }),
        stat({
          title: 'Dead letters waiting',
          description: 'Events that PostgreSQL refused and that nobody has driven again, whenever they came.',
          unit: 'short',
          runbook: 'dead-letters',
          thresholds: levels(1, 1000),
          mappings: none('None'),
          sparkline: false,
          targets: [
            rows(`SELECT coalesce(sum(event_count), 0) AS events FROM dead_letters WHERE redriven_at IS NULL AND ${CHOSEN}`),
          ],
        }),
        table({
          title: 'Usage and limits',
          description: 'The month so far. "At its end" goes on at the pace since the month began; nothing stands there without a quota.',
          unit: 'short',
          runbook: 'quota',
          h: 9,
          columns: {
            'used of quota': { unit: 'percentunit', cell: 'bar', max: 1, thresholds: QUOTA_LEVELS, decimals: 1 },
            'at its end': { unit: 'percentunit', cell: 'coloured', thresholds: QUOTA_LEVELS, decimals: 0, width: 110 },
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
            rows(`
${STANDING}
SELECT name AS project, plan, requests_per_minute AS "requests/min", quota, used AS stored,
       used / quota::numeric AS "used of quota", projected / quota AS "at its end", bytes, duplicates, dead
  FROM standing ORDER BY used / quota::numeric DESC NULLS LAST, used DESC LIMIT 200`),
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
            'Share of the month\'s events that is left, for projects with a quota. Dashed: at the pace since the month began, until nothing is left or the month ends.',
          unit: 'percentunit',
          max: 1,
          runbook: 'quota',
          w: 16,
          h: 10,
          dashed: '/projected/',
          targets: [
            course(`
${STANDING}, hours AS (
  SELECT name, hour, (events - redriven) / quota::numeric AS used,
         sum(events - redriven) OVER (PARTITION BY project_id ORDER BY hour) / quota AS used_until
    FROM usage_hourly JOIN standing USING (project_id), month
   WHERE quota IS NOT NULL AND hour >= month.start
)
SELECT start AS time, name AS metric, 1.0 AS value FROM standing, month WHERE quota IS NOT NULL
UNION ALL SELECT hour, name, greatest(1 - used_until + used, 0) FROM hours
UNION ALL SELECT least(hour + interval '1 hour', now()), name, greatest(1 - used_until, 0) FROM hours
UNION ALL SELECT now(), name, greatest(1 - used / quota::numeric, 0) FROM standing WHERE quota IS NOT NULL
ORDER BY time`),
            course(`
${STANDING}
SELECT now() AS time, name || ' projected' AS metric, greatest(1 - used / quota::numeric, 0) AS value
  FROM standing WHERE quota IS NOT NULL
UNION ALL
SELECT start + least(finish - start, greatest(now() - start, (finish - start) * (quota / greatest(projected, 1))::float8)),
       name || ' projected', greatest(1 - projected / quota, 0)
  FROM standing, month WHERE quota IS NOT NULL
ORDER BY time`),
          ],
        }),
        bargauge({
          title: 'Nearest to their quota',
          description: 'Share of the month that is used up.',
          unit: 'percentunit',
          runbook: 'quota',
          w: 8,
          h: 10,
          max: 1,
          thresholds: QUOTA_LEVELS,
          fields: true,
          targets: [
            rows(`${STANDING}\nSELECT name AS project, used / quota::numeric AS used FROM standing WHERE quota IS NOT NULL ORDER BY used DESC LIMIT 10`),
          ],
        }),
      ],
    },
    {
      title: 'Use',
      panels: [
        timeseries({
          title: 'Events stored',
          description: 'By project, in the interval chosen above. The ten with most events in the time shown.',
          unit: 'short',
          stacked: true,
          bars: true,
          targets: [
            course(`
WITH top AS (
  SELECT project_id FROM usage_hourly WHERE ${IN_SIGHT} AND ${CHOSEN}
   GROUP BY project_id ORDER BY sum(events) DESC LIMIT 10
)
SELECT $__timeGroupAlias(hour, '$interval'), name AS metric, sum(events) AS value
  FROM usage_hourly JOIN top USING (project_id) JOIN projects USING (project_id)
 WHERE ${IN_SIGHT} GROUP BY 1, 2 ORDER BY 1`),
          ],
        }),
        bargauge({
          title: 'Top projects',
          description: 'Events stored in the time shown.',
          unit: 'short',
          fields: true,
          targets: [
            rows(`
SELECT name AS project, sum(events) AS events FROM usage_hourly JOIN projects USING (project_id)
 WHERE ${IN_SIGHT} AND ${CHOSEN} GROUP BY name ORDER BY events DESC LIMIT 10`),
          ],
        }),
        timeseries({
          title: 'Duplicates',
          description: 'Share of the events of a project that were stored before. Many are a client that sends again too soon.',
          unit: 'percentunit',
          targets: [
            course(`
SELECT $__timeGroupAlias(hour, '$interval'), name AS metric,
       sum(duplicates)::float8 / greatest(sum(events + duplicates + dead), 1) AS value
  FROM usage_hourly JOIN projects USING (project_id)
 WHERE ${IN_SIGHT} AND ${CHOSEN} GROUP BY 1, 2 HAVING sum(duplicates) > 0 ORDER BY 1`),
          ],
        }),
        timeseries({
          title: 'Bytes for each event',
          description: 'Mean size of a stored row, by project.',
          unit: 'bytes',
          targets: [
            course(`
SELECT $__timeGroupAlias(hour, '$interval'), name AS metric, sum(bytes)::float8 / sum(events) AS value
  FROM usage_hourly JOIN projects USING (project_id)
 WHERE ${IN_SIGHT} AND ${CHOSEN} GROUP BY 1, 2 HAVING sum(events) > 0 ORDER BY 1`),
          ],
        }),
      ],
    },
    {
      title: 'What was not stored',
      panels: [
        bargauge({
          title: 'Refusals by reason',
          description: 'Requests in the time shown, of all projects together: whom we refuse is not written down, only why.',
          unit: 'short',
          runbook: 'errors',
          targets: [
            instant('{{code}}', `sort_desc(sum by (code) (increase(millrace_http_refusals_total{${I}}[$__range])) > 0)`),
          ],
        }),
        bargauge({
          title: 'Refused events by reason',
          description: 'Events in the time shown that the validator refused; the valid ones beside them went in.',
          unit: 'short',
          targets: [
            instant('{{code}}', `sort_desc(sum by (code) (increase(millrace_refused_events_total{${I}}[$__range])) > 0)`),
          ],
        }),
        table({
          title: 'Dead letters',
          description: 'Events that were accepted and that PostgreSQL refused, in the time shown. "millrace dead-letters redrive" stores them.',
          unit: 'short',
          w: 16,
          runbook: 'dead-letters',
          noValue: 'none',
          columns: { project: { width: 180 }, reason: { width: 420 }, newest: { unit: 'dateTimeAsIso', width: 170 } },
          targets: [
            rows(`
SELECT coalesce(name, 'project ' || project_id) AS project, sqlstate, left(reason, 200) AS reason,
       sum(event_count) AS events, sum(event_count) FILTER (WHERE redriven_at IS NULL) AS waiting, max(dead_letters.created_at) AS newest
  FROM dead_letters LEFT JOIN projects USING (project_id)
 WHERE $__timeFilter(dead_letters.created_at) AND ${CHOSEN} GROUP BY 1, 2, 3 ORDER BY events DESC LIMIT 50`),
          ],
        }),
        timeseries({
          title: 'Dead letters over time',
          description: 'Events that died, by project.',
          unit: 'short',
          w: 8,
          bars: true,
          stacked: true,
          runbook: 'dead-letters',
          targets: [
            course(`
SELECT $__timeGroupAlias(dead_letters.created_at, '$interval'), coalesce(name, 'project ' || project_id) AS metric, sum(event_count) AS value
  FROM dead_letters LEFT JOIN projects USING (project_id)
 WHERE $__timeFilter(dead_letters.created_at) AND ${CHOSEN} GROUP BY 1, 2 ORDER BY 1`),
          ],
        }),
        timeseries({
          title: 'Refusals over time',
          description: 'Plans at their limit, of all projects together.',
          unit: 'reqps',
          w: 12,
          colors: { rate_limited: 'yellow', quota_exceeded: 'purple' },
          targets: [
            series('{{code}}', `sum by (code) (rate(millrace_http_refusals_total{${I},code=~"rate_limited|quota_exceeded|too_many_events"}[$__rate_interval]))`),
          ],
        }),
        table({
          title: 'Redrives',
          description: 'When dead letters were driven again, by whom, and what became of their events.',
          unit: 'short',
          w: 12,
          runbook: 'dead-letters',
          noValue: 'none',
          columns: { started: { unit: 'dateTimeAsIso', width: 170 } },
          targets: [
            rows(`
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
            'Today (UTC), the ledger beside the meter. Both are written in one transaction: "lost" and "not metered" are 0 at every moment.',
          unit: 'short',
          runbook: 'conservation',
          columns: {
            project: { width: 220 },
            lost: { cell: 'coloured', thresholds: levels(1, 1), width: 90 },
            'not metered': { cell: 'coloured', thresholds: levels(1, 1), width: 120 },
          },
          targets: [
            rows(`
WITH day AS (
  SELECT date_trunc('day', now(), 'UTC') AS start
), ledger AS (
  SELECT project_id, count(*) AS batches, sum(accepted) AS accepted, sum(stored) AS stored, sum(duplicate) AS duplicate, sum(dead) AS dead
    FROM batches, day WHERE received_at >= day.start AND ${CHOSEN} GROUP BY project_id
), meter AS (
  SELECT project_id, sum(events) AS events, sum(duplicates) AS duplicates, sum(dead) AS dead
    FROM usage_hourly, day WHERE hour >= day.start AND ${CHOSEN} GROUP BY project_id
)
SELECT name AS project, batches, ledger.accepted, ledger.stored, ledger.duplicate, ledger.dead,
       abs(ledger.accepted - ledger.stored - ledger.duplicate - ledger.dead) AS lost,
       abs(ledger.stored - coalesce(meter.events, 0)) + abs(ledger.duplicate - coalesce(meter.duplicates, 0))
         + abs(ledger.dead - coalesce(meter.dead, 0)) AS "not metered"
  FROM ledger LEFT JOIN meter USING (project_id) JOIN projects USING (project_id)
 ORDER BY ledger.accepted DESC LIMIT 200`),
          ],
        }),
      ],
    },
  ],
});
