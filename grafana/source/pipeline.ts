// Where is the time, and what is stuck? The way of an event, from the socket to the disk of PostgreSQL, one section a stage.

import { AGE_LEVELS, LATENCY_LEVELS, dashboard, levels, series, timeseries } from './kit.js';
import { INSTANCE, intervals } from './variables.js';

const I = 'instance=~"$instance"';
const rate = (metric: string, more = '') => `sum(rate(${metric}{${I}${more}}[$__rate_interval]))`;
const rateBy = (label: string, metric: string, more = '') => `sum by (${label}) (rate(${metric}{${I}${more}}[$__rate_interval]))`;
const quantileBy = (label: string, q: number, metric: string) =>
  `histogram_quantile(${q}, sum by (le, ${label}) (rate(${metric}_bucket{${I}}[$__rate_interval]))) >= 0`;
const quantiles = (metric: string) =>
  [0.5, 0.95, 0.99].map((q) =>
    series(`p${q * 100}`, `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket{${I}}[$__rate_interval])))`));
const QUANTILES = { p50: 'green', p95: 'yellow', p99: 'orange' };

export const pipeline = dashboard({
  uid: 'millrace-pipeline',
  title: 'Millrace: pipeline',
  description: 'Where is the time, and what is stuck?',
  refresh: '10s',
  from: 'now-1h',
  to: 'now',
  variables: [INSTANCE, intervals('The least time between two points', ['5s', '15s', '1m', '5m', '30m'])],
  sections: [
    {
      title: 'Requests',
      panels: [
        timeseries({
          title: 'Requests by route',
          description: 'Routes are templates, never paths.',
          unit: 'reqps',
          w: 8,
          stacked: true,
          targets: [series('{{route}}', `${rateBy('route', 'millrace_http_requests_total')} > 0`)],
        }),
        timeseries({
          title: 'Errors by route',
          description: 'Answers 5xx, all together by status, and below them the routes that fail.',
          unit: 'reqps',
          w: 8,
          runbook: 'errors',
          targets: [
            series('{{status}}', rateBy('status', 'millrace_http_requests_total', ',status=~"5.."')),
            series('{{route}} {{status}}', `${rateBy('route, status', 'millrace_http_requests_total', ',status=~"5.."')} > 0`),
          ],
        }),
        timeseries({
          title: 'Latency p95 by route',
          description: 'What "Prefer: wait" asked to wait is not in it.',
          unit: 's',
          w: 8,
          logarithmic: true,
          runbook: 'latency',
          thresholds: LATENCY_LEVELS,
          targets: [series('{{route}}', quantileBy('route', 0.95, 'millrace_http_request_duration_seconds'))],
        }),
        timeseries({
          title: 'Refused requests',
          description: 'By the code of the answer, for all projects together: no metric bears the name of a project.',
          unit: 'reqps',
          w: 8,
          targets: [series('{{code}}', `${rateBy('code', 'millrace_http_refusals_total')} > 0`)],
        }),
        timeseries({
          title: 'Connections',
          description: 'Open connections, requests being answered, and the limit. Beyond it connections are closed at once.',
          unit: 'short',
          runbook: 'connections-running-out',
          w: 8,
          logarithmic: true,
          dashed: 'limit',
          targets: [
            series('open', `sum(millrace_http_connections{${I}})`),
            series('requests in flight', `sum(millrace_http_requests_in_flight{${I}})`),
            series('limit', `sum(millrace_http_connections_max{${I}})`),
          ],
        }),
        timeseries({
          title: 'Closed and abandoned',
          description: 'Connections closed at the limit, and requests that ended without an answer because the client left.',
          unit: 'cps',
          w: 8,
          runbook: 'connections-running-out',
          targets: [
            series('connections refused', rate('millrace_http_connections_refused_total')),
            series('requests abandoned', rate('millrace_http_requests_abandoned_total')),
          ],
        }),
        timeseries({
          title: 'Bytes received',
          description: 'Bodies as they came, before decompression, and batches as they stand in the stream, packed.',
          unit: 'binBps',
          w: 8,
          targets: [
            series('bodies', rate('millrace_http_body_bytes_total')),
            series('in the stream', rate('millrace_admitted_bytes_total')),
          ],
        }),
        timeseries({
          title: 'Bodies being read',
          description: 'Memory reserved for bodies. At its limit new requests are answered 503 overloaded.',
          unit: 'bytes',
          w: 8,
          targets: [series('reserved', `sum(millrace_http_body_bytes_in_flight{${I}})`)],
        }),
        timeseries({
          title: 'Batch size',
          description: 'Events in one admitted batch. Small batches cost more of everything for each event.',
          unit: 'short',
          w: 8,
          colors: QUANTILES,
          targets: quantiles('millrace_batch_events'),
        }),
      ],
    },
    {
      title: 'Admission',
      panels: [
        timeseries({
          title: 'Verdicts',
          description: 'What the stream decided about batches, and floods that were refused without asking it.',
          unit: 'reqps',
          w: 8,
          stacked: true,
          runbook: 'errors',
          colors: { admitted: 'green', repeated: 'blue', rate_limited: 'yellow', 'flood refused': 'orange', quota_exceeded: 'purple' },
          targets: [
            series('{{verdict}}', `${rateBy('verdict', 'millrace_admissions_total')} > 0`),
            series('flood refused', rate('millrace_flood_refusals_total')),
          ],
        }),
        timeseries({
          title: 'Admission time',
          description: 'Round trip of one admission, until Redis has it on disk. Most of the latency of a request is here.',
          unit: 's',
          w: 8,
          logarithmic: true,
          runbook: 'latency',
          colors: QUANTILES,
          targets: quantiles('millrace_admission_duration_seconds'),
        }),
        timeseries({
          title: 'Refused events',
          description: 'Events of accepted batches that the validator refused, by code. Their neighbours went in.',
          unit: 'eps',
          w: 8,
          stacked: true,
          targets: [series('{{code}}', `${rateBy('code', 'millrace_refused_events_total')} > 0`)],
        }),
      ],
    },
    {
      title: 'Lanes',
      panels: [
        timeseries({
          title: 'Where the lanes are',
          description: 'Lanes in each phase on average; the rest wait for work. The phase that fills them limits the rate. One that took long is told when it ends.',
          unit: 'short',
          w: 8,
          stacked: true,
          runbook: 'backlog',
          dashed: 'lanes',
          targets: [
            series('{{phase}}', rateBy('phase', 'millrace_lane_phase_duration_seconds_sum', ',phase!="read"')),
            series('lanes', `sum(millrace_lanes{${I}})`),
          ],
        }),
        timeseries({
          title: 'Time of a phase, p95',
          description: 'Copying into events, committing, and settling in the stream, for one transaction. Reading waits for work.',
          unit: 's',
          w: 8,
          logarithmic: true,
          runbook: 'backlog',
          targets: [series('{{phase}}', quantileBy('phase', 0.95, 'millrace_lane_phase_duration_seconds'))],
        }),
        timeseries({
          title: 'Transaction size',
          description: 'Events in one transaction. They grow with the load by themselves; at the limit of a lane more lanes help.',
          unit: 'short',
          w: 8,
          logarithmic: true,
          runbook: 'backlog',
          colors: QUANTILES,
          targets: quantiles('millrace_transaction_events'),
        }),
        timeseries({
          title: 'Transactions',
          description: 'Committed a second, and those that the environment stopped, which are retried until they pass.',
          unit: 'ops',
          w: 8,
          runbook: 'store-failing',
          colors: { committed: 'green', 'stopped and retried': 'red' },
          targets: [
            series('committed', rate('millrace_transaction_events_count')),
            series('stopped and retried', rate('millrace_write_failures_total')),
          ],
        }),
        timeseries({
          title: 'Rows',
          description: 'Rows sent through COPY, and events that were stored. Between them: duplicates that had to be found.',
          unit: 'eps',
          w: 8,
          targets: [
            series('copied', rate('millrace_copied_rows_total')),
            series('stored', rate('millrace_stored_events_total')),
            series('duplicate', rate('millrace_duplicate_events_total')),
          ],
        }),
        timeseries({
          title: 'Entries',
          description: 'Batches settled after their commit; redelivered ones were known to the ledger and changed nothing.',
          unit: 'ops',
          w: 8,
          targets: [
            series('settled', rate('millrace_settled_entries_total')),
            series('settled late', rate('millrace_settled_late_entries_total')),
            series('redelivered', rate('millrace_redelivered_entries_total')),
          ],
        }),
      ],
    },
    {
      title: 'What is stuck',
      panels: [
        timeseries({
          title: 'Waiting in the stream',
          description: 'Batches and their packed bytes that are accepted and not stored.',
          unit: 'bytes',
          w: 8,
          runbook: 'backlog',
          targets: [series('packed', `max(millrace_backlog_bytes{${I}})`)],
        }),
        timeseries({
          title: 'Age of the oldest',
          description: 'A straight rise means that nothing is stored at all. Dashed: where the alerts are.',
          unit: 's',
          w: 8,
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          targets: [series('oldest', `max(millrace_backlog_oldest_age_seconds{${I}})`)],
        }),
        timeseries({
          title: 'Taken over',
          description: 'Entries of consumers that fell silent, and tasks that were begun anew after a defect. Counted over the interval.',
          unit: 'short',
          w: 8,
          bars: true,
          runbook: 'entries-taken-over',
          targets: [
            series('entries taken over', `sum(increase(millrace_taken_over_entries_total{${I}}[$__rate_interval]))`),
            series('restarted: {{task}}', `sum by (task) (increase(millrace_restarts_total{${I}}[$__rate_interval]))`),
            series('sessions ended', `sum(increase(millrace_zombies_terminated_total{${I}}[$__rate_interval]))`),
          ],
        }),
        timeseries({
          title: 'Reconnects',
          description: 'Connections made anew after one was lost, and those that could not be made. Counted over the interval.',
          unit: 'short',
          w: 8,
          bars: true,
          runbook: 'reconnecting',
          targets: [
            series('stream', `sum(increase(millrace_stream_reconnects_total{${I}}[$__rate_interval]))`),
            series('store: {{connection}}', `sum by (connection) (increase(millrace_store_reconnects_total{${I}}[$__rate_interval]))`),
            series('store: not made', `sum(increase(millrace_store_connect_failures_total{${I}}[$__rate_interval]))`),
          ],
        }),
        timeseries({
          title: 'Stream errors',
          description: 'Calls to Redis that failed, by kind. While the circuit is open, requests are answered 503 at once.',
          unit: 'ops',
          w: 8,
          runbook: 'stream-unreachable',
          targets: [series('{{kind}}', rateBy('kind', 'millrace_stream_errors_total'))],
        }),
        timeseries({
          title: 'Circuit and epoch',
          description: '1 while every process reaches the stream, trusts its epoch, and finds it durable.',
          unit: 'short',
          w: 8,
          max: 1,
          steps: true,
          runbook: 'stream-unreachable',
          targets: [
            series('connected', `min(millrace_stream_connected{${I}})`),
            series('epoch trusted', `min(millrace_epoch_trusted{${I}})`),
            series('durable', `min(millrace_durability_strict{${I}})`),
          ],
        }),
        timeseries({
          title: 'Upkeep',
          description: 'Time since partitions were last looked after, and since the books were last compared.',
          unit: 's',
          w: 8,
          runbook: 'upkeep-not-running',
          targets: [
            series('since upkeep', `time() - max(millrace_upkeep_last_timestamp_seconds{${I}})`),
            series('since comparison', `time() - max(millrace_conservation_last_timestamp_seconds{${I}})`),
          ],
        }),
        timeseries({
          title: 'Days of partitions ahead',
          description: 'Without one for today events go to the default partition and batches cannot be written.',
          unit: 'short',
          w: 8,
          runbook: 'partitions',
          steps: true,
          targets: [series('days ahead', `max(millrace_partitions_ahead{${I}})`)],
        }),
        timeseries({
          title: 'Failed rounds',
          description: 'Rounds of upkeep and comparisons of the books that could not be made. Counted over the interval.',
          unit: 'short',
          w: 8,
          bars: true,
          runbook: 'upkeep-not-running',
          targets: [
            series('upkeep', `sum(increase(millrace_upkeep_failures_total{${I}}[$__rate_interval]))`),
            series('comparison', `sum(increase(millrace_conservation_failures_total{${I}}[$__rate_interval]))`),
            series('accounts', `sum(increase(millrace_accounts_refreshes_total{${I},result="failed"}[$__rate_interval]))`),
          ],
        }),
      ],
    },
    {
      title: 'What it runs on',
      panels: [
        timeseries({
          title: 'Pools in use',
          description: 'Share of the connections of each pool that are lent out.',
          unit: 'percentunit',
          w: 8,
          max: 1,
          runbook: 'pool-exhausted',
          thresholds: levels(0.8, 1),
          targets: [
            series(
              '{{job}} {{pool}}',
              `sum by (job, pool) (millrace_pool_connections{${I},state="used"}) / sum by (job, pool) (millrace_pool_connections_max{${I}})`,
            ),
          ],
        }),
        timeseries({
          title: 'Waiting for a connection',
          description: 'Callers that wait until a pool has one for them.',
          unit: 'short',
          w: 8,
          runbook: 'pool-exhausted',
          targets: [series('{{job}} {{pool}}', `sum by (job, pool) (millrace_pool_waiting{${I}})`)],
        }),
        timeseries({
          title: 'Redis',
          description: 'Memory in use and the size of the append-only file. A full Redis refuses; it does not forget.',
          unit: 'bytes',
          w: 8,
          runbook: 'redis-memory',
          targets: [
            series('memory', `max(millrace_redis_memory_bytes{${I}})`),
            series('memory limit', `max(millrace_redis_memory_max_bytes{${I}}) > 0`),
            series('append-only file', `max(millrace_redis_aof_bytes{${I}})`),
          ],
        }),
        timeseries({
          title: 'Processor time',
          description: 'Cores in use by each process, averaged over a minute.',
          unit: 'short',
          w: 8,
          targets: [series('{{job}} {{instance}}', `avg_over_time(rate(process_cpu_seconds_total{${I},job=~"ingest-api|stream-worker|millrace"}[$__rate_interval])[1m:])`)],
        }),
        timeseries({
          title: 'Memory',
          description: 'Resident memory of each process.',
          unit: 'bytes',
          w: 8,
          targets: [series('{{job}} {{instance}}', `process_resident_memory_bytes{${I},job=~"ingest-api|stream-worker|millrace"}`)],
        }),
        timeseries({
          title: 'File descriptors',
          description: 'Open, as a share of what the process may open.',
          unit: 'percentunit',
          runbook: 'descriptors-running-out',
          w: 8,
          thresholds: levels(0.8, 0.95),
          targets: [series('{{job}} {{instance}}', `process_open_fds{${I}} / process_max_fds{${I}}`)],
        }),
      ],
    },
  ],
});
