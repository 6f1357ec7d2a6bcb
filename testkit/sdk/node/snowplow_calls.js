// Makes calls of Snowplow's tracker for Node, and writes what the store must contain of each.
//
// usage: snowplow_calls.js SDK HOST KEY EXPECTED_FILE
//
// SDK is snowplow (POST, base64, the key as the id of the application), snowplow-get (GET, the key in a header) or
// snowplow-plain (POST, no base64, the key in the query of the path). See call_list.js for EXPECTED_FILE.
import { setTimeout as sleep } from "node:timers/promises";
import * as snowplow from "@snowplow/node-tracker";
import { CallList } from "./call_list.js";

const AT = Date.parse("2026-11-20T10:00:00.123Z");
const VALUES = { price: 19.99, tags: ["a", { b: null }], city: "Zürich 東京 🚀", paid: true };
const ORDER = "iglu:com.acme/order_completed/jsonschema/1-0-0";
const URL = "https://shop.example/docs?a=1&b=2";
const PATIENCE_MS = 40_000;

const [sdk, host, key, expectedFile] = process.argv.slice(2);
const calls = new CallList(sdk, "snowplow");
const ways = {
  snowplow: { appId: key },
  "snowplow-get": { eventMethod: "get", customHeaders: { Authorization: `Bearer ${key}` } },
  "snowplow-plain": { postPath: `/com.snowplowanalytics.snowplow/tp2?writeKey=${key}` },
};
const { appId = "app-1", ...way } = ways[sdk];

let delivered = 0;
let failures = 0;
const tracker = snowplow.newTracker(
  { namespace: "shop", appId, encodeBase64: sdk !== "snowplow-plain" },
  {
    endpoint: host,
    bufferSize: 6,
    ...way,
    onRequestSuccess: (events) => (delivered += events.length),
    onRequestFailure: () => (failures += 1),
  },
);
tracker.setUserId("user-1");
tracker.setDomainUserId("device-1");
tracker.setIpAddress("198.51.100.7");

// After a failure the tracker sends again with its next event, or when it is flushed.
async function untilTaken() {
  const deadline = Date.now() + PATIENCE_MS;
  while (delivered < calls.expected.length && Date.now() < deadline) {
    await tracker.flush();
    await sleep(100);
  }
}

async function track(event, index, name, properties, rest) {
  const found = calls.row({
    name,
    subject: "user-1",
    timestamp: (AT + index) * 1000,
    properties,
    context_has: { library: { name: "node", version: "4.8.0" } },
    rest: { duid: "device-1", ip: null, stm: null, aid: appId === key ? null : appId, ...rest },
  });
  const context = [{ schema: "iglu:com.acme/case/jsonschema/1-0-0", data: found }];
  // A true time counts before the device's.
  tracker.track(event, context, index % 2 ? AT + index : { type: "ttm", value: AT + index });
  // Several batches.
  if (index % 3 === 2) await untilTaken();
}

for (let index = 0; index < 12; index++) {
  const data = { index, ...VALUES };
  const event = snowplow.buildSelfDescribingEvent({ event: { schema: ORDER, data } });
  await track(event, index, "order_completed", data, { schema: ORDER, e: "ue", ue_px: null, ue_pr: null, cx: null, co: null });
}
const action = { category: "shop", action: "add to basket", label: "Zürich", property: "color", value: 19.9 };
await track(snowplow.buildStructEvent(action), 20, action.action, action, { e: "se" });
const page = { pageUrl: URL, pageTitle: "Docs", referrer: "https://a.example/" };
const view = { name: "Docs", url: URL, referrer: page.referrer };
await track(snowplow.buildPageView(page), 21, "$page", view, { e: "pv" });
const offsets = { minXOffset: 1, maxXOffset: 100, minYOffset: 5, maxYOffset: 200 };
const ping = { ...view, x_min: 1, x_max: 100, y_min: 5, y_max: 200 };
await track(snowplow.buildPagePing({ ...page, ...offsets }), 22, "page_ping", ping, { e: "pp" });
const screen = snowplow.buildScreenView({ name: "Basket", id: "screen-1" });
await track(screen, 23, "$screen", { name: "Basket", id: "screen-1" }, {});
const order = { orderId: "o-1", affiliation: "web", total: 59.9, tax: 9.56, shipping: 4.9, city: "Bern", country: "CH", currency: "CHF" };
const { orderId, ...more } = order;
await track(snowplow.buildEcommerceTransaction(order), 24, "transaction", { order_id: orderId, ...more }, { e: "tr" });
const item = { orderId, sku: "s-1", name: "Cup", category: "kitchen", price: 27.5, quantity: 2, currency: "CHF" };
const { orderId: of, ...own } = item;
await track(snowplow.buildEcommerceTransactionItem(item), 25, "transaction_item", { order_id: of, ...own }, { e: "ti" });

await untilTaken();
if (delivered !== calls.expected.length) calls.errors.push(`${delivered} events were delivered`);
if (failures === 0) calls.errors.push("no request failed: the test is to be of faults");
calls.write(expectedFile);
process.exit();
