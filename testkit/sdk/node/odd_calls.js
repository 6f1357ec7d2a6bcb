// Makes calls of an SDK for Node, ordinary and odd ones, and writes what the store must contain of each.
//
// usage: node odd_calls.js SDK HOST WRITE_KEY EXPECTED_FILE
//
// SDK is segment, rudder, rudder-uncompressed, or rudder-large, which makes calls for bodies of 6 MB. EXPECTED_FILE is
// that of odd_calls.py.
import { writeFileSync } from "node:fs";
import { Analytics } from "@segment/analytics-node";
import RudderAnalytics from "@rudderstack/rudder-sdk-node";

const [sdk, host, writeKey, expectedFile] = process.argv.slice(2);
const MICROS = 1_795_168_800_123_000;
const AT = new Date(MICROS / 1000);
const [CUT, REPAIRED] = ["cut \ud83d", "cut \ufffd"];
// Segment's SDK does not send `originalTimestamp`.
const INSTEAD = sdk === "segment" ? "received_at" : MICROS;
const LONG = "x".repeat(300);
const errors = [];

const deep = (levels) => (levels === 0 ? [] : [deep(levels - 1)]);

/** Calls as [kind, arguments, expected row, or code of the dead letter]. */
const commonCalls = () => {
  const values = { price: 19.99, tags: ["a", { b: null }], city: "Zürich 東京 🚀", paid: true, none: [] };
  const cut = { title: CUT, [CUT]: ["\udead", "🚀"] };
  const repaired = { title: REPAIRED, [REPAIRED]: ["\ufffd", "🚀"] };
  const numbers = { a: NaN, b: [Infinity, -Infinity, 1.5], date: new Date(NaN), gone: undefined };
  const nulls = { a: null, b: [null, null, 1.5], date: null };
  return [
    ...Array.from({ length: 40 }, (_, index) => {
      const properties = { index, ...values };
      return ["track", { event: `Order ${index % 3}`, properties }, { name: `Order ${index % 3}`, properties }];
    }),
    ["identify", { traits: values }, { name: "$identify", properties: values }],
    ["group", { groupId: "g", traits: values }, { name: "$group", properties: values, rest: { groupId: "g" } }],
    ["page", { name: "Docs", properties: values }, { name: "$page", properties: { name: "Docs", ...values } }],
    ["screen", { name: "Docs", properties: {} }, { name: "$screen", properties: { name: "Docs" } }],
    ["alias", { previousId: "old" }, { name: "$alias", properties: { previousId: "old" } }],
    ["track", { event: CUT, properties: cut }, { name: REPAIRED, properties: repaired }],
    ["identify", { traits: cut }, { name: "$identify", properties: repaired }],
    ["group", { groupId: CUT, traits: cut }, { properties: repaired, rest: { groupId: REPAIRED } }],
    ["page", { userId: CUT, properties: cut }, { subject: REPAIRED, properties: repaired }],
    ["track", { event: "numbers", properties: numbers }, { name: "numbers", properties: nulls }],
    ["identify", { traits: numbers }, { name: "$identify", properties: nulls }],
    ["track", { event: "e", userId: LONG }, { subject_begins: LONG.slice(0, 100), rest: { userId: LONG } }],
    ["track", { event: "e", anonymousId: LONG }, { rest: { anonymousId: LONG } }],
    ["track", { event: "e", messageId: LONG }, { rest: { messageId: LONG } }],
    ["track", { event: LONG }, { name: `${LONG.slice(0, 199)}…`, rest: { event: LONG } }],
    ["track", { event: "e", timestamp: AT }, { timestamp: MICROS }],
    // A year of six digits, and one before the year 1.
    ["track", { event: "e", timestamp: new Date(8.64e15), originalTimestamp: AT }, { timestamp: INSTEAD }],
    ["identify", { timestamp: new Date(-62_167_219_200_001), originalTimestamp: AT }, { timestamp: INSTEAD }],
    ["track", { event: "e", properties: { deep: deep(80) } }, "too_deep"],
  ];
};

/** What only one of the SDKs lets pass. */
const segmentCalls = () => [
  ["track", { event: "", properties: {} }, "invalid_length"],
  ["track", { event: "e", timestamp: MICROS / 1000 }, { timestamp: MICROS }],
  ["track", { event: "e", timestamp: "2026-11-20T10:00:00.123" }, { timestamp: MICROS }],
  ["track", { event: "e", timestamp: AT.toString() }, { timestamp: MICROS - 123_000 }],
  ["track", { event: "e", timestamp: AT.toUTCString() }, { timestamp: MICROS - 123_000 }],
  ["track", { event: "e", timestamp: "bogus" }, { timestamp: "received_at", rest: { timestamp: "bogus" } }],
  ["track", { event: "e", timestamp: NaN }, { timestamp: "received_at" }],
  ["track", { event: "e", anonymousId: { id: 1 } }, { rest: { anonymousId: { id: 1 } } }],
];
const rudderCalls = () => [
  ["track", { event: "e", properties: [] }, { properties: {} }],
  ["track", { event: "e", properties: [1] }, "invalid_type"],
  ["track", { event: "e", properties: "x" }, "invalid_type"],
  ["identify", { traits: [] }, { name: "$identify", properties: {} }],
  ["track", { event: "e", userId: 42 }, { subject: "42" }],
  ["track", { event: "e", originalTimestamp: AT }, { timestamp: MICROS }],
  ["track", { event: "e", originalTimestamp: MICROS / 1000 }, { timestamp: MICROS }],
  ["track", { event: "e", originalTimestamp: AT, timestamp: new Date(NaN) }, { timestamp: MICROS }],
];
const largeCalls = () =>
  Array.from({ length: 80 }, (_, index) => {
    const properties = { index, text: "y".repeat(300_000) };
    return ["track", { event: "large", properties }, { name: "large", properties }];
  });

const segment = () => {
  const analytics = new Analytics({ host, writeKey, flushAt: 8 });
  analytics.on("error", (error) => errors.push(`${error.code}: ${error.reason}`));
  return {
    call: (kind, message) => analytics[kind](message),
    flush: () => analytics.closeAndFlush({ timeout: 60_000 }),
  };
};
const rudder = () => {
  const options = { dataPlaneUrl: host, gzip: sdk === "rudder", flushAt: sdk === "rudder-large" ? 20 : 8, logLevel: "none" };
  const analytics = new RudderAnalytics(writeKey, { ...options, errorHandler: (error) => errors.push(String(error)) });
  const answered = [];
  return {
    call: (kind, message) => {
      answered.push(new Promise((done) => analytics[kind](message, (error) => done(error && errors.push(String(error))))));
    },
    // A flush sends one batch.
    flush: async () => {
      let isDone = false;
      const all = Promise.all(answered).then(() => (isDone = true));
      while (!isDone) await Promise.race([all, analytics.flush().then(() => new Promise(setImmediate))]);
    },
  };
};

const own = { segment: segmentCalls, rudder: rudderCalls, "rudder-uncompressed": rudderCalls };
const calls = sdk === "rudder-large" ? largeCalls() : [...commonCalls(), ...own[sdk]()];
// The odd ones are between the ordinary ones, in the same batches.
calls.sort((one, other) => JSON.stringify(one).length % 13 - JSON.stringify(other).length % 13);
const client = sdk === "segment" ? segment() : rudder();
const expected = calls.map(([kind, message, outcome], number) => {
  const name = `${sdk} ${number}`;
  client.call(kind, { userId: "user", ...message, context: { case: name } });
  if (typeof outcome === "string") return { case: name, dead: outcome };
  return { case: name, row: outcome.subject_begins ? outcome : { subject: "user", ...outcome } };
});
await client.flush();
writeFileSync(expectedFile, JSON.stringify(expected));
if (errors.length > 0) {
  console.error(`error: the SDK did not deliver calls: ${errors.join("; ")}`);
  process.exit(1);
}
