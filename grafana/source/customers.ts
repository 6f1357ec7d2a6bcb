// Shows one meter by customer: the largest, the trend, who is new and who is gone. The data comes from the figures of
// meters in PostgreSQL, which are complete up to two seconds ago.

import { bargauge, dashboard, sqlTable, sqlTimeSeries, stat, table, timeseries } from './panels.js';
import { METER, intervals } from './variables.js';

const FIGURES = `
figures AS (
  SELECT subject, bucket, events, value FROM meter_usage WHERE meter_id = \${meter:csv}
  UNION ALL
  SELECT subject, bucket, events, 0 FROM meter_uniques WHERE meter_id = \${meter:csv}
), kind AS (
  SELECT aggregation FROM meters WHERE meter_id = \${meter:csv}
)`.trim();
// Averages and latest values cannot be added up over buckets; their customers are compared by the number of events. So are
// those of counts of different values: the dashboard does not read the values.
const VALUE = `CASE (SELECT aggregation FROM kind) WHEN 'sum' THEN sum(value) WHEN 'min' THEN min(value) WHEN 'max' THEN max(value)
       ELSE sum(events) END`;
// Quarters of an hour that overlap the selected time range.
const SHOWN = "bucket BETWEEN $__timeFrom()::timestamptz - interval '15 minutes' AND $__timeTo()";
// The period of the same length before the selected time range.
const BEFORE = `bucket BETWEEN 2 * interval '-15 minutes' + $__timeFrom()::timestamptz - ($__timeTo()::timestamptz - $__timeFrom()::timestamptz)
   AND $__timeFrom()::timestamptz - interval '15 minutes'`;
const CUSTOMER = "coalesce(nullif(subject, ''), '(no subject)')";
const SUBJECTS = `
WITH ${FIGURES}, subjects AS (
  SELECT subject, bool_or(${SHOWN}) AS is_now, bool_or(${BEFORE}) AS was_before, min(bucket) AS first, max(bucket) AS last
    FROM figures GROUP BY subject
)`.trim();

const count = (title: string, description: string, condition: string) =>
  stat({
    title,
    description,
    unit: 'short',
    sparkline: false,
    targets: [sqlTable(`${SUBJECTS}\nSELECT count(*) AS customers FROM subjects WHERE ${condition}`)],
  });

const NEW = "is_now AND first >= $__timeFrom()::timestamptz - interval '15 minutes'";
const GONE = 'was_before AND NOT is_now AND last <= $__timeTo()::timestamptz';

const WHEN = { customer: { width: 260 } };

export const customers = dashboard({
  uid: 'millrace-customers',
  title: 'Millrace: customers',
  description: 'One meter by customer: the largest, the trend, who is new and who is gone',
  refresh: '1m',
  from: 'now-30d',
  to: 'now',
  variables: [METER, intervals('Time covered by each point', ['1d', '1h', '6h'])],
  sections: [
    {
      title: 'Customers',
      panels: [
        count('Customers', 'Subjects with events in the selected time range.', 'is_now'),
        count('New in this time', 'Subjects whose first event is in the selected time range.', NEW),
        count('Gone in this time', 'Subjects with events in the period of the same length before, and none since.', GONE),
        stat({
          title: 'Not counted',
          description: 'Events of all time that this meter does not count, because their value or a group is not usable.',
          unit: 'short',
          sparkline: false,
          targets: [sqlTable('SELECT coalesce(sum(events), 0) AS events FROM meter_faults WHERE meter_id = ${meter:csv}')],
        }),
        bargauge({
          title: 'Largest customers',
          description:
            'The value of the meter in the selected time range. For averages, latest values and counts of different values: the events.',
          unit: 'short',
          w: 8,
          h: 12,
          fields: true,
          targets: [
            sqlTable(`
WITH ${FIGURES}
SELECT ${CUSTOMER} AS customer, ${VALUE} AS value FROM figures WHERE ${SHOWN}
 GROUP BY subject ORDER BY value DESC LIMIT 15`),
          ],
        }),
        table({
          title: 'All customers',
          description: 'The value in the selected time range, and in the period of the same length before.',
          unit: 'short',
          w: 16,
          h: 12,
          columns: {
            customer: { width: 260 },
            change: { unit: 'percentunit', decimals: 0, width: 110 },
          },
          targets: [
            sqlTable(`
WITH ${FIGURES}, now AS (
  SELECT subject, ${VALUE} AS value, sum(events) AS events FROM figures WHERE ${SHOWN} GROUP BY subject
), before AS (
  SELECT subject, ${VALUE} AS value FROM figures WHERE ${BEFORE} GROUP BY subject
)
SELECT ${CUSTOMER} AS customer, now.value, before.value AS before, now.value / nullif(before.value, 0) - 1 AS change, now.events
  FROM now LEFT JOIN before USING (subject) ORDER BY now.value DESC LIMIT 500`),
          ],
        }),
      ],
    },
    {
      title: 'Trend',
      panels: [
        timeseries({
          title: 'All customers together',
          description: 'The value of the meter in each interval.',
          unit: 'short',
          bars: true,
          targets: [
            sqlTimeSeries(`
WITH ${FIGURES}
SELECT $__timeGroupAlias(bucket, '$interval'), 'all customers' AS metric, ${VALUE} AS value
  FROM figures WHERE ${SHOWN} GROUP BY 1 ORDER BY 1`),
          ],
        }),
        timeseries({
          title: 'Largest customers over time',
          description: 'The value in each interval, for the ten customers with most events in the selected time range.',
          unit: 'short',
          targets: [
            sqlTimeSeries(`
WITH ${FIGURES}, top AS (
  SELECT subject FROM figures WHERE ${SHOWN} GROUP BY subject ORDER BY sum(events) DESC LIMIT 10
)
SELECT $__timeGroupAlias(bucket, '$interval'), ${CUSTOMER} AS metric, ${VALUE} AS value
  FROM figures JOIN top USING (subject) WHERE ${SHOWN} GROUP BY 1, subject ORDER BY 1`),
          ],
        }),
      ],
    },
    {
      title: 'New and gone',
      panels: [
        table({
          title: 'New customers',
          description: 'Subjects whose first event is in the selected time range, the latest first.',
          unit: 'short',
          w: 12,
          columns: WHEN,
          targets: [
            sqlTable(`${SUBJECTS}\nSELECT ${CUSTOMER} AS customer, first AS "first event" FROM subjects WHERE ${NEW} ORDER BY first DESC LIMIT 200`),
          ],
        }),
        table({
          title: 'Gone customers',
          description: 'Subjects with events in the period of the same length before, and none since.',
          unit: 'short',
          w: 12,
          columns: WHEN,
          targets: [
            sqlTable(`${SUBJECTS}\nSELECT ${CUSTOMER} AS customer, last AS "last event" FROM subjects WHERE ${GONE} ORDER BY last DESC LIMIT 200`),
          ],
        }),
        table({
          title: 'Events that are not counted',
          description: 'By reason. `millrace meter show` prints a sample of each.',
          unit: 'short',
          w: 24,
          columns: { reason: { width: 260 } },
          targets: [
            sqlTable('SELECT fault AS reason, events, last_at AS "last event" FROM meter_faults WHERE meter_id = ${meter:csv} ORDER BY events DESC'),
          ],
        }),
      ],
    },
  ],
});
