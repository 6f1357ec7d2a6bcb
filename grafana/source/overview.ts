// Shows whether Millrace is healthy: current values first, then the same values over time.

import {
  AGE_LEVELS, ERROR_LEVELS, LATENCY_LEVELS, atLeast, dashboard, instantQuery, levels, rangeQuery, stat, states,
  table, timeseries, zeroAs,
} from './panels.js';
import { INSTANCE, intervals } from './variables.js';

const SELECTED = 'instance=~"$instance"';
const rate = (metric: string, more = '') => `sum(rate(${metric}{${SELECTED}${more}}[$__rate_interval]))`;
const quantile = (q: number, metric: string, more = '') =>
  `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket{${SELECTED}${more}}[$__rate_interval])))`;
// The same selections as in the alert rules: posted events, and all requests except health checks.
const POSTS = 'route=~"/v1/(events|batch|import|track|identify|page|screen|group|alias|[abtipsg])"';
const CLIENTS = 'route!~"/healthz|/readyz"';
const increase = (metric: string) => `sum(increase(${metric}{${SELECTED}}[$__range]))`;

export const overview = dashboard({
  uid: 'millrace-overview',
  title: 'Millrace: overview',
  description: 'Throughput, errors, delay until events are stored, and correctness',
  refresh: '10s',
  from: 'now-1h',
  to: 'now',
  variables: [INSTANCE, intervals('Minimum time between two points', ['5s', '15s', '1m', '5m', '30m'])],
  sections: [
    {
      title: 'At a glance',
      panels: [
        stat({
          title: 'Accepted',
          description: 'Events accepted for the first time. Each of them must be stored or kept as a dead letter.',
          unit: 'eps',
          targets: [rangeQuery('accepted', rate('millrace_admitted_events_total'))],
        }),
        stat({
          title: 'Stored',
          description: 'Events committed in PostgreSQL. The backlog grows while this is less than the accepted events.',
          unit: 'eps',
          targets: [rangeQuery('stored', rate('millrace_stored_events_total'))],
        }),
        stat({
          title: 'Errors',
          description: 'Share of requests answered 5xx. Alerts at 1% and 5%. A plan at its limit (429) is not an error.',
          unit: 'percentunit',
          runbook: 'errors',
          thresholds: ERROR_LEVELS,
          noValue: 'no traffic',
          targets: [rangeQuery('5xx', `${rate('millrace_http_requests_total', `,${CLIENTS},status=~"5.."`)} / (${rate('millrace_http_requests_total', `,${CLIENTS}`)} > 0)`)],
        }),
        stat({
          title: 'Latency p95',
          description: 'From the request head to the answer of a post, including the fsync of Redis. Alerts at 100 and 500 ms.',
          unit: 's',
          runbook: 'latency',
          thresholds: LATENCY_LEVELS,
          noValue: 'no traffic',
          targets: [rangeQuery('p95', `${quantile(0.95, 'millrace_http_request_duration_seconds', `,${POSTS}`)} >= 0`)],
        }),
        stat({
          title: 'Oldest pending',
          description: 'Age of the oldest batch that is accepted and not yet stored. Alerts at 1 and 10 s.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          targets: [rangeQuery('oldest', `max(millrace_backlog_oldest_age_seconds{${SELECTED}})`)],
        }),
        stat({
          title: 'Freshness p95',
          description: 'Time from acceptance until an event is readable in PostgreSQL, for the oldest batch of each transaction.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          noValue: 'no traffic',
          targets: [rangeQuery('p95', `${quantile(0.95, 'millrace_freshness_seconds')} >= 0`)],
        }),
        stat({
          title: 'Conservation',
          description: 'Projects for which accepted = stored + duplicate + dead + pending did not hold in the last comparison.',
          unit: 'short',
          runbook: 'conservation',
          thresholds: levels(1, 1),
          mappings: zeroAs('Holds'),
          sparkline: false,
          targets: [rangeQuery('broken', `max(millrace_conservation_broken_projects{${SELECTED}})`)],
        }),
        stat({
          title: 'Durability',
          description: 'Whether the settings of Redis guarantee that acknowledged events are on disk. Checked every 30 s.',
          unit: 'short',
          runbook: 'durability',
          thresholds: atLeast(1),
          mappings: states('On disk', 'At risk'),
          sparkline: false,
          targets: [rangeQuery('strict', `min(millrace_durability_strict{${SELECTED}})`)],
        }),
        stat({
          title: 'Epoch',
          description: 'Whether the epoch of the stream matches PostgreSQL. If not, Redis was wiped or replaced, and no event is accepted.',
          unit: 'short',
          runbook: 'epoch',
          thresholds: atLeast(1),
          mappings: states('Trusted', 'Changed'),
          sparkline: false,
          targets: [rangeQuery('trusted', `min(millrace_epoch_trusted{${SELECTED}})`)],
        }),
        stat({
          title: 'Dead letters',
          description: 'Events that PostgreSQL refused in the selected time range. "millrace dead-letters" lists and redrives them.',
          unit: 'short',
          decimals: 0,
          runbook: 'dead-letters',
          thresholds: levels(1, 1000),
          mappings: zeroAs('None'),
          sparkline: false,
          targets: [instantQuery('dead', increase('millrace_dead_events_total'))],
        }),
        stat({
          title: 'Near the quota',
          description: 'Projects that have used at least 90% of their monthly quota. The projects dashboard lists them.',
          unit: 'short',
          runbook: 'quota',
          thresholds: levels(1, 1000),
          mappings: zeroAs('None'),
          sparkline: false,
          targets: [rangeQuery('projects', `max(millrace_quota_projects{${SELECTED},used_percent="90"})`)],
        }),
        stat({
          title: 'Instances',
          description: 'Processes that answered the last scrape of Prometheus.',
          unit: 'short',
          runbook: 'target-down',
          thresholds: atLeast(1),
          sparkline: false,
          targets: [rangeQuery('up', `count(millrace_build_info{${SELECTED}})`)],
        }),
      ],
    },
    {
      title: 'Flow',
      panels: [
        timeseries({
          title: 'Events',
          description: 'The lines of accepted and stored events coincide while the workers keep up. Duplicates were stored before and use no quota.',
          unit: 'eps',
          runbook: 'backlog',
          colors: { accepted: 'blue', stored: 'green', duplicate: 'yellow', dead: 'red', 'refused by the validator': 'purple' },
          targets: [
            rangeQuery('accepted', rate('millrace_admitted_events_total')),
            rangeQuery('stored', rate('millrace_stored_events_total')),
            rangeQuery('duplicate', rate('millrace_duplicate_events_total')),
            rangeQuery('dead', rate('millrace_dead_events_total')),
            rangeQuery('refused by the validator', rate('millrace_refused_events_total')),
          ],
        }),
        timeseries({
          title: 'Requests by status',
          description: '429 means that a plan is at its limit. 503 means that Millrace cannot accept events now and the client must retry.',
          unit: 'reqps',
          stacked: true,
          runbook: 'errors',
          colors: { '202': 'green', '200': 'semi-dark-green', '429': 'yellow', '503': 'red', '500': 'dark-red' },
          targets: [rangeQuery('{{status}}', `sum by (status) (rate(millrace_http_requests_total{${SELECTED}}[$__rate_interval])) > 0`)],
        }),
        timeseries({
          title: 'Latency',
          description: 'From the request head to the answer of a post, without the time that "Prefer: wait" asked for. Dashed: alert levels.',
          unit: 's',
          runbook: 'latency',
          thresholds: LATENCY_LEVELS,
          logarithmic: true,
          colors: { p50: 'green', p95: 'yellow', p99: 'orange' },
          targets: [0.5, 0.95, 0.99].map((q) =>
            rangeQuery(`p${q * 100}`, quantile(q, 'millrace_http_request_duration_seconds', `,${POSTS}`))),
        }),
        timeseries({
          title: 'Freshness',
          description: 'Age of events when they become readable in PostgreSQL. Dashed: alert levels.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          logarithmic: true,
          colors: { p50: 'green', p95: 'yellow', p99: 'orange' },
          targets: [0.5, 0.95, 0.99].map((q) => rangeQuery(`p${q * 100}`, quantile(q, 'millrace_freshness_seconds'))),
        }),
      ],
    },
    {
      title: 'Backlog and delay',
      panels: [
        timeseries({
          title: 'Backlog',
          description: 'Events that are accepted and not yet stored. At the limit, new batches are answered 503.',
          unit: 'short',
          runbook: 'backlog',
          colors: { events: 'blue', entries: 'purple' },
          targets: [
            rangeQuery('events', `max(millrace_backlog_events{${SELECTED}})`),
            rangeQuery('entries', `max(millrace_backlog_entries{${SELECTED}})`),
          ],
        }),
        timeseries({
          title: 'Oldest pending batch',
          description: 'Age of the oldest batch in the stream. It grows by one second per second while no batch is stored.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          colors: { oldest: 'blue' },
          targets: [rangeQuery('oldest', `max(millrace_backlog_oldest_age_seconds{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Backlog limit used',
          description: 'Backlog as a share of its limit.',
          unit: 'percentunit',
          runbook: 'backlog',
          max: 1,
          thresholds: levels(0.5, 0.9),
          colors: { used: 'blue' },
          targets: [rangeQuery('used', `max(millrace_backlog_events{${SELECTED}}) / max(millrace_backlog_events_max{${SELECTED}})`)],
        }),
        timeseries({
          title: 'Time to drain the backlog',
          description: 'Backlog divided by the rate of stored events. Empty while no event is stored.',
          unit: 's',
          runbook: 'backlog',
          colors: { 'at the current rate': 'blue' },
          targets: [
            rangeQuery('at the current rate', `max(millrace_backlog_events{${SELECTED}}) / (${rate('millrace_stored_events_total')} > 0)`),
          ],
        }),
      ],
    },
    {
      title: 'Promises',
      panels: [
        timeseries({
          title: 'Accepted and accounted for',
          description: 'Totals since installation, from the last comparison. The two lines must coincide: a gap is a loss.',
          unit: 'short',
          runbook: 'conservation',
          stacked: false,
          steps: true,
          colors: { accepted: 'blue', 'stored + duplicate + dead + pending': 'green' },
          targets: [
            rangeQuery('accepted', `max(millrace_conservation_events{${SELECTED},part="accepted"})`),
            rangeQuery('stored + duplicate + dead + pending', `sum(max by (part) (millrace_conservation_events{${SELECTED},part!="accepted"}))`),
          ],
        }),
        timeseries({
          title: 'Broken promises',
          description: 'Each of these counters must stay at 0. Increase over the last hour.',
          unit: 'short',
          runbook: 'conservation',
          bars: true,
          targets: [
            ['conservation', 'millrace_conservation_violations_total'],
            ['durability', 'millrace_durability_faults_total'],
            ['row count mismatch', 'millrace_copied_rows_mismatch_total'],
            ['entries vanished', 'millrace_vanished_entries_total'],
            ['epoch rebuilt', 'millrace_epoch_rebuilds_total'],
          ].map(([name, metric]) => rangeQuery(name!, `sum(increase(${metric}{${SELECTED}}[1h]))`)),
        }),
        table({
          title: 'Versions',
          description: 'Version and commit of each process.',
          unit: 'short',
          h: 5,
          columns: { Time: { hidden: true }, Value: { hidden: true }, __name__: { hidden: true } },
          targets: [{ ...instantQuery('', `millrace_build_info{${SELECTED}}`), format: 'table' }],
        }),
      ],
    },
  ],
});
