// Makes calls of PostHog's SDK for Node, and writes what the store must contain of each.
//
// usage: posthog_calls.js SDK HOST KEY EXPECTED_FILE
//
// SDK is posthog (gzip), posthog-uncompressed or posthog-v1 (the second protocol). See call_list.js for EXPECTED_FILE.
import { PostHog } from "posthog-node";
import { randomUUID } from "node:crypto";
import { CallList } from "./call_list.js";

const AT = Date.parse("2026-11-20T10:00:00.123Z");
const VALUES = { price: 19.99, tags: ["a", { b: null }], city: "Zürich 東京 🚀", paid: true, none: [] };

const [sdk, host, key, expectedFile] = process.argv.slice(2);
if (sdk === "posthog-v1") process.env.POSTHOG_CAPTURE_MODE = "v1";
const library = { library: { name: "posthog-node", version: "5.70.0" } };
const calls = new CallList(sdk, "posthog");
const client = new PostHog(key, {
  host,
  flushAt: 8,
  maxBatchSize: 8,
  flushInterval: 100,
  fetchRetryCount: 10,
  fetchRetryDelay: 300,
  disableCompression: sdk === "posthog-uncompressed",
});
client.on("error", (error) => calls.errors.push(String(error)));

// The timers of the SDK do not keep a program running that has nothing else to do.
const running = setInterval(() => {}, 1000);
for (let index = 0; index < 40; index++) {
  const uuid = randomUUID();
  const timestamp = new Date(AT + index * 1000);
  const properties = { index, ...VALUES };
  const found = calls.row({
    name: `Order ${index % 3}`,
    subject: `user-${index % 5}`,
    timestamp: timestamp.getTime() * 1000,
    event_id: uuid.replaceAll("-", ""),
    properties_have: properties,
    context_has: library,
  });
  client.capture({
    event: `Order ${index % 3}`,
    distinctId: `user-${index % 5}`,
    properties: { ...properties, ...found },
    timestamp,
    uuid,
  });
}
client.identify({
  distinctId: "user-1",
  properties: { plan: "pro", ...calls.row({ name: "$identify", subject: "user-1", properties_have: { plan: "pro" } }) },
});
client.capture({
  event: "$screen",
  distinctId: "user-1",
  properties: { $screen_name: "Home", ...calls.row({ name: "$screen", properties_have: { name: "Home" } }) },
});
client.groupIdentify({
  groupType: "company",
  groupKey: "c1",
  properties: { seats: 3, ...calls.row({ name: "$group", properties_have: { seats: 3 } }) },
});
client.capture({
  event: "numbers",
  distinctId: "u",
  properties: {
    a: NaN,
    cut: "cut \ud83d",
    ...calls.row({ name: "numbers", properties_have: { a: null, cut: "cut \ufffd" } }),
  },
});
await client.shutdown();
clearInterval(running);
calls.write(expectedFile);
