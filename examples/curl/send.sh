#!/bin/sh
# Sends three events with curl, and retries until the server has answered.
#
#   MILLRACE_URL=http://127.0.0.1:8080 MILLRACE_KEY=mk_... examples/curl/send.sh
#
# The ids and timestamps are fixed, so a second run stores nothing new.
set -eu

url="${MILLRACE_URL:-http://127.0.0.1:8080}"
key="${MILLRACE_KEY:?set MILLRACE_KEY to a key of your project}"
answer="$(mktemp)"
trap 'rm -f "$answer"' EXIT

# --retry repeats after 408, 429 and 5xx and waits for as long as Retry-After says. --retry-connrefused and
# --retry-all-errors add lost connections. --retry-max-time gives up when that would take more than a minute.
status="$(
  curl --silent --show-error --output "$answer" --write-out '%{http_code}' \
    --max-time 10 --retry 8 --retry-max-time 60 --retry-connrefused --retry-all-errors \
    --header "Authorization: Bearer $key" \
    --header 'Content-Type: application/json' \
    --data-binary @- "$url/v1/events" <<'JSON'
{"events": [
  {"name": "order_completed", "subject": "user-1", "id": "curl-order-1001",
   "timestamp": "2026-01-15T10:00:00Z", "properties": {"revenue": 19.90, "currency": "EUR"}},
  {"name": "order_completed", "subject": "user-2", "id": "curl-order-1002",
   "timestamp": "2026-01-15T10:05:00Z", "properties": {"revenue": 5.00, "currency": "EUR"}},
  {"name": "order_refunded", "subject": "user-1", "id": "curl-refund-1001",
   "timestamp": "2026-01-15T11:00:00Z", "properties": {"revenue": 19.90, "currency": "EUR"}}
]}
JSON
)"

cat "$answer"
echo
if [ "$status" != 202 ]; then
  echo "refused with status $status" >&2
  exit 1
fi
# Some events may be accepted and others rejected; the answer names each rejected event and the reason.
if ! grep -q '"rejected":\[\]' "$answer"; then
  echo "some events were rejected" >&2
  exit 1
fi
