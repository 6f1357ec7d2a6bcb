// Is it healthy, at a glance? Figures first, the courses they come from below.

import {
  AGE_LEVELS, ERROR_LEVELS, LATENCY_LEVELS, atLeast, dashboard, instant, levels, none, series, stat, states,
  table, timeseries,
} from './kit.js';
import { INSTANCE, intervals } from './variables.js';

const I = 'instance=~"$instance"';
const rate = (metric: string, more = '') => `sum(rate(${metric}{${I}${more}}[$__rate_interval]))`;
const quantile = (q: number, metric: string, more = '') =>
  `histogram_quantile(${q}, sum by (le) (rate(${metric}_bucket{${I}${more}}[$__rate_interval])))`;
// As in the alerts: what clients post, and what is not asked by machines that watch us.
const POSTS = 'route=~"/v1/(events|batch|import|track|identify|page|screen|group|alias|[abtipsg])"';
const CLIENTS = 'route!~"/healthz|/readyz"';
const grown = (metric: string) => `sum(increase(${metric}{${I}}[$__range]))`;

export const overview = dashboard({
  uid: 'millrace-overview',
  title: 'Millrace: overview',
  description: 'Do events flow, how far behind are they, and is every promise kept?',
  refresh: '10s',
  from: 'now-1h',
  to: 'now',
  variables: [INSTANCE, intervals('The least time between two points', ['5s', '15s', '1m', '5m', '30m'])],
  sections: [
    {
      title: 'At a glance',
      panels: [
        stat({
          title: 'Accepted',
          description: 'Events answered 2xx for the first time: each of them must be stored, or kept as a dead letter.',
          unit: 'eps',
          targets: [series('accepted', rate('millrace_admitted_events_total'))],
        }),
        stat({
          title: 'Stored',
          description: 'Events committed in PostgreSQL. Below what is accepted, the backlog grows.',
          unit: 'eps',
          targets: [series('stored', rate('millrace_stored_events_total'))],
        }),
        stat({
          title: 'Errors',
          description: 'Share of requests answered 5xx. Alerts at 1 % and 5 %; a plan at its limit (429) is none of them.',
          unit: 'percentunit',
          runbook: 'errors',
          thresholds: ERROR_LEVELS,
          noValue: 'no traffic',
          targets: [series('5xx', `${rate('millrace_http_requests_total', `,${CLIENTS},status=~"5.."`)} / (${rate('millrace_http_requests_total', `,${CLIENTS}`)} > 0)`)],
        }),
        stat({
          title: 'Latency p95',
          description: 'Of posts, from the head to the answer, the fsync of Redis included. Alerts at 100 and 500 ms.',
          unit: 's',
          runbook: 'latency',
          thresholds: LATENCY_LEVELS,
          noValue: 'no traffic',
          targets: [series('p95', `${quantile(0.95, 'millrace_http_request_duration_seconds', `,${POSTS}`)} >= 0`)],
        }),
        stat({
          title: 'Oldest pending',
          description: 'Age of the oldest batch that is accepted and not stored. Alerts at 1 and 10 s.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          targets: [series('oldest', `max(millrace_backlog_oldest_age_seconds{${I}})`)],
        }),
        stat({
          title: 'Freshness p95',
          description: 'From acceptance until the event can be read in PostgreSQL, for the oldest batch of each transaction.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          noValue: 'no traffic',
          targets: [series('p95', `${quantile(0.95, 'millrace_freshness_seconds')} >= 0`)],
        }),
        stat({
          title: 'Conservation',
          description: 'Projects for which accepted = stored + duplicate + dead + pending did not hold when last compared.',
          unit: 'short',
          runbook: 'conservation',
          thresholds: levels(1, 1),
          mappings: none('Holds'),
          sparkline: false,
          targets: [series('broken', `max(millrace_conservation_broken_projects{${I}})`)],
        }),
        stat({
          title: 'Durability',
          description: 'Whether acknowledged means on disk: what Redis says of its own settings, checked every 30 s.',
          unit: 'short',
          runbook: 'durability',
          thresholds: atLeast(1),
          mappings: states('On disk', 'At risk'),
          sparkline: false,
          targets: [series('strict', `min(millrace_durability_strict{${I}})`)],
        }),
        stat({
          title: 'Epoch',
          description: 'Whether the stream is the one PostgreSQL knows. If not, Redis was wiped or swapped and nobody is admitted.',
          unit: 'short',
          runbook: 'epoch',
          thresholds: atLeast(1),
          mappings: states('Trusted', 'Changed'),
          sparkline: false,
          targets: [series('trusted', `min(millrace_epoch_trusted{${I}})`)],
        }),
        stat({
          title: 'Dead letters',
          description: 'Events in the time shown that PostgreSQL refused. They are kept; "millrace dead-letters" shows and redrives them.',
          unit: 'short',
          decimals: 0,
          runbook: 'dead-letters',
          thresholds: levels(1, 1000),
          mappings: none('None'),
          sparkline: false,
          targets: [instant('dead', grown('millrace_dead_events_total'))],
        }),
        stat({
          title: 'Near the quota',
          description: 'Projects that have used 90 % of their month or more. The dashboard of projects names them.',
          unit: 'short',
          runbook: 'quota',
          thresholds: levels(1, 1000),
          mappings: none('None'),
          sparkline: false,
          targets: [series('projects', `max(millrace_quota_projects{${I},used_percent="90"})`)],
        }),
        stat({
          title: 'Instances',
          description: 'Processes that Prometheus could read at its last scrape.',
          unit: 'short',
          runbook: 'target-down',
          thresholds: atLeast(1),
          sparkline: false,
          targets: [series('up', `count(millrace_build_info{${I}})`)],
        }),
      ],
    },
    {
      title: 'Flow',
      panels: [
        timeseries({
          title: 'Events',
          description: 'Accepted and stored lie on each other while the workers keep up. Duplicates were stored before, and are refunded.',
          unit: 'eps',
          runbook: 'backlog',
          colors: { accepted: 'blue', stored: 'green', duplicate: 'yellow', dead: 'red', 'refused by the validator': 'purple' },
          targets: [
            series('accepted', rate('millrace_admitted_events_total')),
            series('stored', rate('millrace_stored_events_total')),
            series('duplicate', rate('millrace_duplicate_events_total')),
            series('dead', rate('millrace_dead_events_total')),
            series('refused by the validator', rate('millrace_refused_events_total')),
          ],
        }),
        timeseries({
          title: 'Requests by status',
          description: '429 is a plan at its limit and no failure of ours; 503 is, and asks the client to come back.',
          unit: 'reqps',
          stacked: true,
          runbook: 'errors',
          colors: { '202': 'green', '200': 'semi-dark-green', '429': 'yellow', '503': 'red', '500': 'dark-red' },
          targets: [series('{{status}}', `sum by (status) (rate(millrace_http_requests_total{${I}}[$__rate_interval])) > 0`)],
        }),
        timeseries({
          title: 'Latency',
          description: 'From the head of a post to its answer, but for what "Prefer: wait" asked to wait. Dashed: where the alerts are.',
          unit: 's',
          runbook: 'latency',
          thresholds: LATENCY_LEVELS,
          logarithmic: true,
          colors: { p50: 'green', p95: 'yellow', p99: 'orange' },
          targets: [0.5, 0.95, 0.99].map((q) =>
            series(`p${q * 100}`, quantile(q, 'millrace_http_request_duration_seconds', `,${POSTS}`))),
        }),
        timeseries({
          title: 'Freshness',
          description: 'How old events are when they can be read in PostgreSQL.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          logarithmic: true,
          colors: { p50: 'green', p95: 'yellow', p99: 'orange' },
          targets: [0.5, 0.95, 0.99].map((q) => series(`p${q * 100}`, quantile(q, 'millrace_freshness_seconds'))),
        }),
      ],
    },
    {
      title: 'Behind',
      panels: [
        timeseries({
          title: 'Backlog',
          description: 'Events that are accepted, on disk in the stream, and not stored yet. At the limit, new batches are answered 503.',
          unit: 'short',
          runbook: 'backlog',
          colors: { waiting: 'blue', 'in batches': 'purple' },
          targets: [
            series('waiting', `max(millrace_backlog_events{${I}})`),
            series('in batches', `max(millrace_backlog_entries{${I}})`),
          ],
        }),
        timeseries({
          title: 'Age of the oldest',
          description: 'How long the oldest batch in the stream has waited. It grows by a second each second when nothing is stored.',
          unit: 's',
          runbook: 'stored-late',
          thresholds: AGE_LEVELS,
          colors: { oldest: 'blue' },
          targets: [series('oldest', `max(millrace_backlog_oldest_age_seconds{${I}})`)],
        }),
        timeseries({
          title: 'Room left in the stream',
          description: 'Share of the backlog limit that is taken.',
          unit: 'percentunit',
          runbook: 'backlog',
          max: 1,
          thresholds: levels(0.5, 0.9),
          colors: { taken: 'blue' },
          targets: [series('taken', `max(millrace_backlog_events{${I}}) / max(millrace_backlog_events_max{${I}})`)],
        }),
        timeseries({
          title: 'Until it is drained',
          description: 'The backlog divided by the rate at which events are stored. Empty while nothing is stored.',
          unit: 's',
          runbook: 'backlog',
          colors: { 'at this pace': 'blue' },
          targets: [
            series('at this pace', `max(millrace_backlog_events{${I}}) / (${rate('millrace_stored_events_total')} > 0)`),
          ],
        }),
      ],
    },
    {
      title: 'Promises',
      panels: [
        timeseries({
          title: 'Accepted and accounted for',
          description: 'All events since ever, when last compared. What is accepted lies on top of its parts; a gap would be a loss.',
          unit: 'short',
          runbook: 'conservation',
          stacked: false,
          steps: true,
          colors: { accepted: 'blue', 'stored + duplicate + dead + pending': 'green' },
          targets: [
            series('accepted', `max(millrace_conservation_events{${I},part="accepted"})`),
            series('stored + duplicate + dead + pending', `sum(max by (part) (millrace_conservation_events{${I},part!="accepted"}))`),
          ],
        }),
        timeseries({
          title: 'Broken promises',
          description: 'Sentinels: each must stay at 0 for ever. Counted over the last hour.',
          unit: 'short',
          runbook: 'conservation',
          bars: true,
          targets: [
            ['conservation', 'millrace_conservation_violations_total'],
            ['durability', 'millrace_durability_faults_total'],
            ['rows copied', 'millrace_copied_rows_mismatch_total'],
            ['vanished', 'millrace_vanished_entries_total'],
            ['epoch rebuilt', 'millrace_epoch_rebuilds_total'],
          ].map(([name, metric]) => series(name!, `sum(increase(${metric}{${I}}[1h]))`)),
        }),
        table({
          title: 'What runs',
          description: 'Version and commit of each process.',
          unit: 'short',
          h: 5,
          columns: { Time: { hidden: true }, Value: { hidden: true }, __name__: { hidden: true } },
          targets: [{ ...instant('', `millrace_build_info{${I}}`), format: 'table' }],
        }),
      ],
    },
  ],
});
