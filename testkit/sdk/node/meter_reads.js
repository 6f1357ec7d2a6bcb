// Reads meters with OpenMeter's SDK for Node, and writes what it read as one JSON document.
//
// usage: meter_reads.js HOST KEY FILE
//
// `../meter_reads.py` makes the same calls, and must write the same document.
import { writeFileSync } from "node:fs";
import { OpenMeter } from "@openmeter/sdk";

const [host, key, file] = process.argv.slice(2);
const { meters } = new OpenMeter({ baseUrl: host, apiKey: key });
const period = { from: new Date("2026-10-23T22:00:00Z"), to: new Date("2026-10-26T23:00:00Z") };

function meter(found) {
  if (!(found.createdAt instanceof Date) || +found.createdAt !== +found.updatedAt) {
    throw new Error(`no times: ${JSON.stringify(found)}`);
  }
  const { id, slug, name, aggregation, eventType, valueProperty = null, groupBy = null } = found;
  return { id, slug, name, aggregation, eventType, valueProperty, groupBy };
}

// The SDK makes dates of times, and JSON writes them in their one form.
function result({ from = null, to = null, windowSize = null, data }) {
  const row = ({ value, windowStart, windowEnd, subject, groupBy }) => ({
    value,
    windowStart: windowStart.toISOString(),
    windowEnd: windowEnd.toISOString(),
    subject,
    groupBy,
  });
  return { from, to, windowSize, data: data.map(row) };
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return error.status;
  }
  return null;
}

const listed = (await meters.list()).map(meter);
const document = {
  list: listed,
  page: (await meters.list({ params: { query: { page: 2, pageSize: 1 } } })).map(meter),
  get: meter(await meters.get("tokens")),
  by_id: meter(await meters.get(listed[0].id)),
  whole: result(await meters.query("tokens", period)),
  days: result(await meters.query("tokens", { ...period, windowSize: "DAY", windowTimeZone: "Europe/Berlin" })),
  groups: result(await meters.query("tokens", { ...period, groupBy: ["subject", "model"] })),
  subjects: result(await meters.query("tokens", { ...period, subject: ["acme", "globex"] })),
  filtered: result(await meters.query("tokens", { ...period, filterGroupBy: { model: "a" } })),
  posted: result(
    await meters.queryPost("tokens", {
      ...period,
      windowSize: "MONTH",
      subject: ["acme"],
      groupBy: ["model"],
      filterGroupBy: { model: ["a", "b"] },
    }),
  ),
  until_now: result(await meters.query("calls", { to: new Date() })).data[0].value,
  refused: {
    minutes: await refusal(() => meters.query("tokens", { ...period, windowSize: "MINUTE" })),
    "no quarter": await refusal(() =>
      meters.query("tokens", { from: new Date("2026-10-23T22:07:00Z"), to: period.to }),
    ),
    absent: await refusal(() => meters.get("absent")),
    "no group": await refusal(() => meters.query("tokens", { ...period, groupBy: ["color"] })),
  },
};
writeFileSync(file, JSON.stringify(document));
