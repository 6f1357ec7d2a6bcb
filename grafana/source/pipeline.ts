// Shows where events spend time and where they are stuck, stage by stage from the HTTP socket to PostgreSQL.

import { AGE_LEVELS, LATENCY_LEVELS, dashboard, levels, rangeQuery, timeseries } from './panels.js';
import { INSTANCE, intervals } from './variables.js';

const SELECTED = 'instance=~"$instance"';
const rate = (metric: string, more = '') => `sum(rate(${metric}{${SELECTED}${more}}[$__rate_interval]))`;
const rateBy = (label: string, metric: string, more = '') => `sum by (${label}) (rate(${metric}{${SELECTED}${more}}[$__rate_interval]))`;
const quantileBy = (label: string, q: number, metric: string) =>
  `histogram_quantile(${q}, sum by (le, ${label}) (rate(${metric}_bucket{${SELECTED}}[$__rate_interval]))) >= 0`;
const quantiles = (metric: string) =>
  [0.5, 0.95, 0.99].map((q) =>
    rangeQuery(`p${q * 100}`, `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket{${SELECTED}}[$__rate_interval])))`));
const QUANTILES = { p50: 'green', p95: 'yellow', p99: 'orange' };

export const pipeline = dashboard({
  uid: 'millrace-pipeline',
  title: 'Millrace: pipeline',
  description: 'Time and errors in each stage, from the HTTP request to PostgreSQL',
  refresh: '10s',
  from: 'now-1h',
  to: 'now',
  variables: [INSTANCE, intervals('Minimum time between two points', ['5s', '15s', '1m', '5m', '30m'])],
  sections: [
    {
      title: 'Requests',
      panels: [
        timeseries({
          title: 'Requests by route',
          description: 'Requests by route template.',
          unit: 'reqps',
          w: 8,
          stacked: true,
          targets: [rangeQuery('{{route}}', `${rateBy('route', 'millrace_http_requests_total')} > 0`)],
        }),
        timeseries({
          title: 'Errors by route',
          description: 'Requests answered 5xx, by status and by route.',
          unit: 'reqps',
          w: 8,
          runbook: 'errors',
          targets: [
            rangeQuery('{{status}}', rateBy('status', 'millrace_http_requests_total', ',status=~"5.."')),
            rangeQuery('{{route}} {{status}}', `${rateBy('route, status', 'millrace_http_requests_total', ',status=~"5.."')} > 0`),
          ],
        }),
        timeseries({
          title: 'Latency p95 by route',
          description: 'Without the time that "Prefer: wait" asked for. Dashed: alert levels.',
          unit: 's',
          w: 8,
          logarithmic: true,
          runbook: 'latency',
          thresholds: LATENCY_LEVELS,
          targets: [rangeQuery('{{route}}', quantileBy('route', 0.95, 'millrace_http_request_duration_seconds'))],
        }),
        timeseries({
          title: 'Refused requests',
          description: 'Requests of all projects, by the error code of the answer. No metric has the project as a label.',
          unit: 'reqps',
          w: 8,
          targets: [rangeQuery('{{code}}', `${rateBy('code', 'millrace_http_refusals_total')} > 0`)],
        }),
        timeseries({
          title: 'Connections',
          description: 'Open connections and requests in flight. New connections above the limit are closed immediately.',
          unit: 'short',
          runbook: 'connections-running-out',
          w: 8,
          logarithmic: true,
          dashed: 'limit',
          targets: [
            rangeQuery('open', `sum(millrace_http_connections{${SELECTED}})`),
            rangeQuery('requests in flight', `sum(millrace_http_requests_in_flight{${SELECTED}})`),
            rangeQuery('limit', `sum(millrace_http_connections_max{${SELECTED}})`),
          ],
        }),
        timeseries({
          title: 'Refused connections, abandoned requests',
          description: 'Connections closed at the limit, and requests whose client disconnected before the answer.',
          unit: 'cps',
          w: 8,
          runbook: 'connections-running-out',
          targets: [
            rangeQuery('connections refused', rate('millrace_http_connections_refused_total')),
            rangeQuery('requests abandoned', rate('millrace_http_requests_abandoned_total')),
          ],
        }),
        timeseries({
          title: 'Bytes received',
          description: 'Request bodies before decompression, and the rows of admitted batches before compression.',
          unit: 'binBps',
          w: 8,
          targets: [
            rangeQuery('bodies', rate('millrace_http_body_bytes_total')),
            rangeQuery('rows', rate('millrace_admitted_bytes_total')),
          ],
        }),
        timeseries({
          title: 'Memory for request bodies',
          description: 'Reserved memory. At the limit, new requests are answered 503 overloaded.',
          unit: 'bytes',
          w: 8,
          targets: [rangeQuery('reserved', `sum(millrace_http_body_bytes_in_flight{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Batch size',
          description: 'Events per admitted batch. Small batches cost more CPU and I/O per event.',
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
          title: 'Admission results',
          description: 'Decisions of the stream about batches, and requests over the rate limit that were refused without asking the stream.',
          unit: 'reqps',
          w: 6,
          stacked: true,
          runbook: 'errors',
          colors: { admitted: 'green', repeated: 'blue', rate_limited: 'yellow', 'rate_limited early': 'orange', quota_exceeded: 'purple' },
          targets: [
            rangeQuery('{{verdict}}', `${rateBy('verdict', 'millrace_admissions_total')} > 0`),
            rangeQuery('rate_limited early', rate('millrace_flood_refusals_total')),
          ],
        }),
        timeseries({
          title: 'Admission latency',
          description: 'Time of one admission, until Redis has written it to disk. This is most of the latency of a request.',
          unit: 's',
          w: 6,
          logarithmic: true,
          runbook: 'latency',
          colors: QUANTILES,
          targets: quantiles('millrace_admission_duration_seconds'),
        }),
        timeseries({
          title: 'Refused events',
          description: 'Events that the validator refused, by code. The valid events of the same batches were accepted. "millrace rejections" shows projects and samples.',
          unit: 'eps',
          w: 6,
          stacked: true,
          runbook: 'events-refused',
          targets: [rangeQuery('{{code}}', `${rateBy('code', 'millrace_refused_events_total')} > 0`)],
        }),
        timeseries({
          title: 'Share of events refused or dead',
          description: 'Of all events that were received: those that the validator refused, and those that were accepted and became dead letters.',
          unit: 'percentunit',
          w: 6,
          runbook: 'events-refused',
          colors: { refused: 'purple', dead: 'red' },
          targets: [
            rangeQuery('refused', `${rate('millrace_refused_events_total')} / (${rate('millrace_refused_events_total')} + ${rate('millrace_admitted_events_total')})`),
            rangeQuery('dead', `${rate('millrace_dead_events_total')} / (${rate('millrace_refused_events_total')} + ${rate('millrace_admitted_events_total')})`),
          ],
        }),
      ],
    },
    {
      title: 'Lanes',
      panels: [
        timeseries({
          title: 'Lanes by phase',
          description: 'Average number of lanes in each phase; the others wait for work. The phase with most lanes limits throughput. A phase is counted when it ends.',
          unit: 'short',
          w: 8,
          stacked: true,
          runbook: 'backlog',
          dashed: 'lanes',
          targets: [
            rangeQuery('{{phase}}', rateBy('phase', 'millrace_lane_phase_duration_seconds_sum', ',phase!="read"')),
            rangeQuery('lanes', `sum(millrace_lanes{${SELECTED}})`),
          ],
        }),
        timeseries({
          title: 'Phase duration p95',
          description: 'p95 of each phase of a transaction: read entries, copy events, commit, and settle in the stream.',
          unit: 's',
          w: 8,
          logarithmic: true,
          runbook: 'backlog',
          targets: [rangeQuery('{{phase}}', quantileBy('phase', 0.95, 'millrace_lane_phase_duration_seconds'))],
        }),
        timeseries({
          title: 'Transaction size',
          description: 'Events per transaction. Transactions grow with the load. If they reach the limit, add lanes.',
          unit: 'short',
          w: 8,
          logarithmic: true,
          runbook: 'backlog',
          colors: QUANTILES,
          targets: quantiles('millrace_transaction_events'),
        }),
        timeseries({
          title: 'Transactions',
          description: 'Committed transactions, and transactions that failed because of the environment and are retried until they succeed.',
          unit: 'ops',
          w: 8,
          runbook: 'store-failing',
          colors: { committed: 'green', 'failed and retried': 'red' },
          targets: [
            rangeQuery('committed', rate('millrace_transaction_events_count')),
            rangeQuery('failed and retried', rate('millrace_write_failures_total')),
          ],
        }),
        timeseries({
          title: 'Rows',
          description: 'Rows sent by COPY, events stored, and events that were duplicates.',
          unit: 'eps',
          w: 8,
          targets: [
            rangeQuery('copied', rate('millrace_copied_rows_total')),
            rangeQuery('stored', rate('millrace_stored_events_total')),
            rangeQuery('duplicate', rate('millrace_duplicate_events_total')),
          ],
        }),
        timeseries({
          title: 'Entries',
          description: 'Batches settled after their commit. Redelivered batches were in the ledger already and changed nothing.',
          unit: 'ops',
          w: 8,
          targets: [
            rangeQuery('settled', rate('millrace_settled_entries_total')),
            rangeQuery('settled late', rate('millrace_settled_late_entries_total')),
            rangeQuery('redelivered', rate('millrace_redelivered_entries_total')),
          ],
        }),
      ],
    },
    {
      title: 'Delays and recovery',
      panels: [
        timeseries({
          title: 'Backlog size',
          description: 'Packed bytes of the batches that are accepted and not yet stored.',
          unit: 'bytes',
          w: 8,
          runbook: 'backlog',
          targets: [rangeQuery('packed', `max(millrace_backlog_bytes{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Oldest pending batch',
          description: 'Age of the oldest batch in the stream. A straight rise means that no batch is stored. Dashed: alert levels.',
          unit: 's',
          w: 8,
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          targets: [rangeQuery('oldest', `max(millrace_backlog_oldest_age_seconds{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Takeovers and restarts',
          description: 'Entries taken over from inactive consumers, tasks restarted after a panic, and stuck database sessions ended. Count per interval.',
          unit: 'short',
          w: 8,
          bars: true,
          runbook: 'entries-taken-over',
          targets: [
            rangeQuery('entries taken over', `sum(increase(millrace_taken_over_entries_total{${SELECTED}}[$__rate_interval]))`),
            rangeQuery('restarted: {{task}}', `sum by (task) (increase(millrace_restarts_total{${SELECTED}}[$__rate_interval]))`),
            rangeQuery('sessions ended', `sum(increase(millrace_zombies_terminated_total{${SELECTED}}[$__rate_interval]))`),
          ],
        }),
        timeseries({
          title: 'Reconnects',
          description: 'Connections reopened after a loss, and failed attempts. Count per interval.',
          unit: 'short',
          w: 8,
          bars: true,
          runbook: 'reconnecting',
          targets: [
            rangeQuery('stream', `sum(increase(millrace_stream_reconnects_total{${SELECTED}}[$__rate_interval]))`),
            rangeQuery('store: {{connection}}', `sum by (connection) (increase(millrace_store_reconnects_total{${SELECTED}}[$__rate_interval]))`),
            rangeQuery('store: failed', `sum(increase(millrace_store_connect_failures_total{${SELECTED}}[$__rate_interval]))`),
          ],
        }),
        timeseries({
          title: 'Stream errors',
          description: 'Failed calls to Redis, by kind. While the circuit breaker is open, requests are answered 503 immediately.',
          unit: 'ops',
          w: 8,
          runbook: 'stream-unreachable',
          targets: [rangeQuery('{{kind}}', rateBy('kind', 'millrace_stream_errors_total'))],
        }),
        timeseries({
          title: 'Stream state',
          description: '1 while every process is connected to the stream, trusts its epoch, and finds it durable.',
          unit: 'short',
          w: 8,
          max: 1,
          steps: true,
          runbook: 'stream-unreachable',
          targets: [
            rangeQuery('connected', `min(millrace_stream_connected{${SELECTED}})`),
            rangeQuery('epoch trusted', `min(millrace_epoch_trusted{${SELECTED}})`),
            rangeQuery('durable', `min(millrace_durability_strict{${SELECTED}})`),
          ],
        }),
        timeseries({
          title: 'Time since upkeep',
          description: 'Time since the last upkeep of partitions and retention, and since the last conservation check.',
          unit: 's',
          w: 8,
          runbook: 'upkeep-not-running',
          targets: [
            rangeQuery('since upkeep', `time() - max(millrace_upkeep_last_timestamp_seconds{${SELECTED}})`),
            rangeQuery('since conservation check', `time() - max(millrace_conservation_last_timestamp_seconds{${SELECTED}})`),
          ],
        }),
        timeseries({
          title: 'Days of partitions ahead',
          description: 'Number of days after today that have partitions. Without a partition for today, batches cannot be written.',
          unit: 'short',
          w: 8,
          runbook: 'partitions',
          steps: true,
          targets: [rangeQuery('days ahead', `max(millrace_partitions_ahead{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Failed maintenance',
          description: 'Failed rounds of upkeep, conservation checks, and reads of keys and plans. Count per interval.',
          unit: 'short',
          w: 8,
          bars: true,
          runbook: 'upkeep-not-running',
          targets: [
            rangeQuery('upkeep', `sum(increase(millrace_upkeep_failures_total{${SELECTED}}[$__rate_interval]))`),
            rangeQuery('conservation check', `sum(increase(millrace_conservation_failures_total{${SELECTED}}[$__rate_interval]))`),
            rangeQuery('keys and plans', `sum(increase(millrace_accounts_refreshes_total{${SELECTED},result="failed"}[$__rate_interval]))`),
          ],
        }),
      ],
    },
    {
      title: 'Resources',
      panels: [
        timeseries({
          title: 'Pools in use',
          description: 'Share of each connection pool that is in use.',
          unit: 'percentunit',
          w: 8,
          max: 1,
          runbook: 'pool-exhausted',
          thresholds: levels(0.8, 1),
          targets: [
            rangeQuery(
              '{{job}} {{pool}}',
              `sum by (job, pool) (millrace_pool_connections{${SELECTED},state="used"}) / sum by (job, pool) (millrace_pool_connections_max{${SELECTED}})`,
            ),
          ],
        }),
        timeseries({
          title: 'Waiting for a connection',
          description: 'Callers that wait for a free connection of a pool.',
          unit: 'short',
          w: 8,
          runbook: 'pool-exhausted',
          targets: [rangeQuery('{{job}} {{pool}}', `sum by (job, pool) (millrace_pool_waiting{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Redis',
          description: 'Memory in use and size of the append-only file. A full Redis refuses writes and deletes nothing.',
          unit: 'bytes',
          w: 8,
          runbook: 'redis-memory',
          targets: [
            rangeQuery('memory', `max(millrace_redis_memory_bytes{${SELECTED}})`),
            rangeQuery('memory limit', `max(millrace_redis_memory_max_bytes{${SELECTED}}) > 0`),
            rangeQuery('append-only file', `max(millrace_redis_aof_bytes{${SELECTED}})`),
          ],
        }),
        timeseries({
          title: 'CPU usage',
          description: 'Cores in use by each process, averaged over one minute.',
          unit: 'short',
          w: 8,
          targets: [rangeQuery('{{job}} {{instance}}', `avg_over_time(rate(process_cpu_seconds_total{${SELECTED},job=~"ingest-api|stream-worker|millrace"}[$__rate_interval])[1m:5s])`)],
        }),
        timeseries({
          title: 'Memory',
          description: 'Resident memory of each process.',
          unit: 'bytes',
          w: 8,
          targets: [rangeQuery('{{job}} {{instance}}', `process_resident_memory_bytes{${SELECTED},job=~"ingest-api|stream-worker|millrace"}`)],
        }),
        timeseries({
          title: 'File descriptors',
          description: 'Open file descriptors, as a share of the limit of the process.',
          unit: 'percentunit',
          runbook: 'descriptors-running-out',
          w: 8,
          thresholds: levels(0.8, 0.95),
          targets: [rangeQuery('{{job}} {{instance}}', `process_open_fds{${SELECTED}} / process_max_fds{${SELECTED}}`)],
        }),
      ],
    },
  ],
});
