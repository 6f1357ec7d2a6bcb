// Makes calls of Jitsu's SDK for Node, and writes what the store must contain of each.
//
// usage: jitsu_calls.js SDK HOST KEY EXPECTED_FILE
//
// SDK is jitsu (as a server sends) or jitsu-browser (the routes for browsers). See call_list.js for EXPECTED_FILE. The SDK
// never sends a call again by itself: its option fetch does here, as an application that needs every call does.
import { setTimeout as sleep } from "node:timers/promises";
import { jitsuAnalytics } from "@jitsu/js";
import { CallList } from "./call_list.js";

const VALUES = { price: 19.99, tags: ["a", { b: null }], city: "Zürich 東京 🚀", paid: true };
const ATTEMPTS = 5;

const [sdk, host, key, expectedFile] = process.argv.slice(2);
const calls = new CallList(sdk, "segment");

async function untilTaken(url, request) {
  for (let attempt = 1; ; attempt++) {
    try {
      const answer = await fetch(url, request);
      if (answer.ok || attempt === ATTEMPTS) return answer;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
    await sleep(1000);
  }
}

const client = jitsuAnalytics({
  host,
  writeKey: `shop:${key}`,
  s2s: sdk === "jitsu",
  fetch: untilTaken,
  errorPolicy: (message) => calls.errors.push(message),
});
const library = { library: { name: "@jitsu/js", version: "1.11.0", env: "node" } };

await client.identify("user-1", { plan: "pro", ...calls.row({ name: "$identify", subject: "user-1", properties_have: { plan: "pro" } }) });
for (let index = 0; index < 10; index++) {
  const found = calls.row({
    name: `Order ${index % 3}`,
    subject: "user-1",
    properties_have: { index, ...VALUES },
    context_has: library,
    rest: { type: "track" },
  });
  await client.track(`Order ${index % 3}`, { index, ...VALUES, ...found });
}
const page = calls.row({ name: "$page", subject: "user-1", properties_have: { name: "Docs", title: "Docs" } });
await client.page({ name: "Docs", title: "Docs", url: "https://shop.example/docs", ...page });
const group = calls.row({ name: "$group", subject: "user-1", properties_have: { seats: 3 }, rest: { groupId: "c1" } });
await client.group("c1", { seats: 3, ...group });
calls.write(expectedFile);
process.exit();
