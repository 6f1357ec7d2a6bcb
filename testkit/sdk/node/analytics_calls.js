// Makes calls of the SDKs for Node of Amplitude and Mixpanel, and writes what the store must contain of each.
//
// usage: analytics_calls.js SDK HOST KEY EXPECTED_FILE
//
// SDK is amplitude or mixpanel. See call_list.js for EXPECTED_FILE. A call that an SDK does not repeat by itself is
// repeated here, as an application does.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { CallList } from "./call_list.js";

const AT = Date.parse("2026-11-20T10:00:00Z");
const VALUES = { price: 19.99, tags: ["a", { b: null }], city: "Zürich 東京 🚀", paid: true };
const ATTEMPTS = 5;

const [sdk, host, key, expectedFile] = process.argv.slice(2);
const calls = new CallList(sdk, sdk);

function order(index, library) {
  const insertId = index % 2 ? randomUUID() : `insert-${index}`;
  const found = calls.row({
    name: `Order ${index % 3}`,
    subject: `user-${index % 5}`,
    timestamp: (AT + index * 1000) * 1000,
    client_id: index % 2 ? null : insertId,
    properties_have: { index, ...VALUES },
    context_has: library,
  });
  const name = `Order ${index % 3}`;
  return { name, user: `user-${index % 5}`, insertId, time: AT + index * 1000, properties: { index, ...VALUES, ...found } };
}

async function untilTaken(call) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await new Promise((resolve, reject) => call((error) => (error ? reject(error) : resolve())));
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await sleep(1000);
    }
  }
}

const programs = {
  async amplitude() {
    const amplitude = await import("@amplitude/analytics-node");
    const options = { serverUrl: `${host}/2/httpapi`, flushQueueSize: 8, flushIntervalMillis: 100 };
    await amplitude.init(key, options).promise;
    const library = { library: { name: "amplitude-node-ts", version: "1.5.73" } };
    const results = [];
    for (let index = 0; index < 40; index++) {
      const { name, user, insertId, time, properties } = order(index, library);
      results.push(amplitude.track(name, properties, { user_id: user, insert_id: insertId, time }).promise);
    }
    const traits = new amplitude.Identify();
    const found = calls.row({ name: "$identify", subject: "user-1", properties_have: { plan: "pro" } });
    for (const [name, value] of Object.entries({ plan: "pro", ...found })) traits.set(name, value);
    results.push(amplitude.identify(traits, { user_id: "user-1" }).promise);
    for (const { code, message } of await Promise.all(results)) {
      // The SDK reports a batch whose answer was lost with the code 0, and does not send it again.
      if (code !== 200 && code !== 0) calls.errors.push(`${code} ${message}`);
    }
  },

  async mixpanel() {
    const { default: Mixpanel } = await import("mixpanel");
    const client = Mixpanel.init(key, { host: new URL(host).host, protocol: "http" });
    const library = { library: { name: "node", version: "0.24.0" } };
    for (let index = 0; index < 10; index++) {
      const { name, user, insertId, time, properties } = order(index, library);
      const sent = { ...properties, distinct_id: user, $insert_id: insertId, time: time / 1000 };
      await untilTaken((done) => client.track(name, { ...sent }, done));
    }
    const batch = Array.from({ length: 12 }, (_, offset) => order(10 + offset));
    const events = batch.map(({ name, user, insertId, time, properties }) => ({
      event: name,
      properties: { ...properties, distinct_id: user, $insert_id: insertId, time: time / 1000 },
    }));
    await untilTaken((done) => client.track_batch(structuredClone(events), (errors) => done(errors?.[0])));
    const traits = calls.row({ name: "$identify", subject: "user-1", properties_have: { plan: "pro" } });
    await untilTaken((done) => client.people.set("user-1", { plan: "pro", ...traits }, done));
    const group = calls.row({ name: "$group", subject: "c1", properties_have: { seats: 3 } });
    await untilTaken((done) => client.groups.set("company", "c1", { seats: 3, ...group }, done));
  },
};
await programs[sdk]();
calls.write(expectedFile);
process.exit();
