// Makes calls of the SDKs for Node of OpenMeter and Lago, and of the package cloudevents, and writes what the store must
// contain of each.
//
// usage: metering_calls.js SDK HOST KEY EXPECTED_FILE
//
// SDK is openmeter, lago or cloudevents. See call_list.js for EXPECTED_FILE. A call that an SDK does not repeat by itself
// is repeated here, as an application does.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { CallList } from "./call_list.js";

const AT = Date.parse("2026-11-20T10:00:00Z");
const ATTEMPTS = 5;

const [sdk, host, key, expectedFile] = process.argv.slice(2);
const calls = new CallList(sdk, sdk === "lago" ? "lago" : "cloudevents");

async function untilTaken(call) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await sleep(1000);
    }
  }
}

function cloudEvent(index) {
  const id = index % 2 ? randomUUID() : `event-${index}`;
  const values = { tokens: index, city: "Zürich 🚀" };
  const found = calls.row({
    name: "prompt",
    subject: `customer-${index % 5}`,
    timestamp: (AT + index * 1000) * 1000,
    client_id: id,
    properties_have: values,
    rest: { source: "/gateway" },
  });
  return {
    id,
    source: "/gateway",
    specversion: "1.0",
    type: "prompt",
    subject: `customer-${index % 5}`,
    data: { ...values, ...found },
    time: new Date(AT + index * 1000),
  };
}

const programs = {
  async openmeter() {
    const { OpenMeter } = await import("@openmeter/sdk");
    const client = new OpenMeter({ baseUrl: host, apiKey: key });
    for (let index = 0; index < 10; index++) {
      const event = cloudEvent(index);
      await untilTaken(() => client.events.ingest(event));
    }
    for (let start = 10; start < 40; start += 8) {
      const events = Array.from({ length: 8 }, (_, offset) => cloudEvent(start + offset));
      await untilTaken(() => client.events.ingest(events));
    }
  },

  async cloudevents() {
    const { CloudEvent, HTTP } = await import("cloudevents");
    for (let index = 0; index < 20; index++) {
      const event = new CloudEvent({ ...cloudEvent(index), time: new Date(AT + index * 1000).toISOString() });
      const { headers, body } = index % 2 ? HTTP.binary(event) : HTTP.structured(event);
      await untilTaken(async () => {
        const answer = await fetch(`${host}/v1/cloudevents`, {
          method: "POST",
          headers: { ...headers, authorization: `Bearer ${key}` },
          body,
        });
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      });
    }
  },

  async lago() {
    const { Client } = await import("lago-javascript-client");
    const client = Client(key, { baseUrl: `${host}/api/v1` });
    const event = (index) => {
      const found = calls.row({
        name: "api_calls",
        subject: `sub-${index % 5}`,
        timestamp: (AT + index * 1000) * 1000,
        client_id: `transaction-${index}`,
        properties_have: { n: index },
      });
      return {
        transaction_id: `transaction-${index}`,
        external_subscription_id: `sub-${index % 5}`,
        code: "api_calls",
        timestamp: AT / 1000 + index,
        properties: { n: index, ...found },
      };
    };
    for (let index = 0; index < 10; index++) {
      const one = event(index);
      const answer = await untilTaken(() => client.events.createEvent({ event: one }));
      if (answer.data.event.transaction_id !== one.transaction_id) {
        calls.errors.push(`another event was answered: ${JSON.stringify(answer.data)}`);
      }
    }
    for (let start = 10; start < 40; start += 8) {
      const events = Array.from({ length: 8 }, (_, offset) => event(start + offset));
      await untilTaken(() => client.events.createBatchEvents({ events }));
    }
  },
};
await programs[sdk]();
calls.write(expectedFile);
