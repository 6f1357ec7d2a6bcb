// Sends three events with fetch, and retries with the same ids until the server has answered. Needs Node 18 or newer.
//
//   MILLRACE_URL=http://127.0.0.1:8080 MILLRACE_KEY=mk_... node examples/node/send.mjs
//
// The ids and timestamps are fixed, so a second run stores nothing new.

const ATTEMPTS = 8;
const TIMEOUT_MS = 10_000;
// A longer Retry-After means that the month's quota is used up: retrying now is of no use.
const WAIT_S_MAX = 60;

const EVENTS = [
  {
    name: "order_completed",
    subject: "user-1",
    id: "node-order-1001",
    timestamp: "2026-01-15T10:00:00Z",
    properties: { revenue: 19.9, currency: "EUR" },
  },
  {
    name: "order_completed",
    subject: "user-2",
    id: "node-order-1002",
    timestamp: "2026-01-15T10:05:00Z",
    properties: { revenue: 5, currency: "EUR" },
  },
  {
    name: "order_refunded",
    subject: "user-1",
    id: "node-refund-1001",
    timestamp: "2026-01-15T11:00:00Z",
    properties: { revenue: 19.9, currency: "EUR" },
  },
];

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Posts a batch and returns the answer. Throws when the batch is refused, and after the last attempt. */
async function send(url, key, events) {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const body = JSON.stringify({ events });
  let reason, waitS;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (attempt > 0) {
      console.error(`attempt ${attempt} failed: ${reason}; retrying in ${waitS.toFixed(1)} s`);
      await sleep(waitS);
    }
    waitS = Math.min(2 ** attempt, 30) * (0.5 + Math.random() / 2);
    try {
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const response = await fetch(`${url}/v1/events`, { method: "POST", headers, body, signal });
      const text = await response.text();
      if (response.ok) {
        return JSON.parse(text);
      }
      reason = `${response.status} ${text}`;
      const retryAfterS = Number(response.headers.get("retry-after") ?? 0);
      const retryable = [408, 429].includes(response.status) || response.status >= 500;
      if (!retryable || retryAfterS > WAIT_S_MAX) {
        throw new Error(`refused: ${reason}`, { cause: "refused" });
      }
      waitS = retryAfterS || waitS;
    } catch (error) {
      if (error.cause === "refused") {
        throw error;
      }
      // No answer: the batch may or may not have been accepted. The same ids make it safe to send it again.
      reason = String(error.cause ?? error);
    }
  }
  throw new Error(`gave up after ${ATTEMPTS} attempts: ${reason}`);
}

const key = process.env.MILLRACE_KEY;
if (!key) {
  console.error("set MILLRACE_KEY to a key of your project");
  process.exit(2);
}
try {
  const answer = await send(process.env.MILLRACE_URL ?? "http://127.0.0.1:8080", key, EVENTS);
  console.log(JSON.stringify(answer));
  if (answer.rejected.length > 0) {
    throw new Error(`${answer.rejected.length} events were rejected`);
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
