// Makes log records with OpenTelemetry's SDK for Node, and writes what the store must contain of each.
//
// usage: otel_calls.js SDK HOST KEY EXPECTED_FILE
//
// SDK is otel (JSON), otel-gzip (JSON) or otel-proto (protobuf). See call_list.js for EXPECTED_FILE. The exporter is
// configured as docs/moving/opentelemetry.md says, by its environment variables.
import { CallList } from "./call_list.js";

const AT = Date.parse("2026-11-20T10:00:00.123Z");
const VALUES = { price: 19.99, city: "Zürich 東京 🚀", paid: true, tags: ["a", "b"] };
const TRACE = "5b8efff798038103d269b633813fc60c";
const SPAN = "eee19b7ec3c1b174";

const [sdk, host, key, expectedFile] = process.argv.slice(2);
const calls = new CallList(sdk, "otel");
Object.assign(process.env, {
  OTEL_EXPORTER_OTLP_ENDPOINT: host,
  OTEL_EXPORTER_OTLP_HEADERS: `Authorization=Bearer%20${key}`,
  OTEL_EXPORTER_OTLP_COMPRESSION: sdk === "otel-gzip" ? "gzip" : "none",
  // The faults take some attempts.
  OTEL_EXPORTER_OTLP_TIMEOUT: "60000",
});
const form = sdk === "otel-proto" ? "proto" : "http";
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${form}`);
const { LoggerProvider, BatchLogRecordProcessor } = await import("@opentelemetry/sdk-logs");
const { defaultResource, resourceFromAttributes } = await import("@opentelemetry/resources");
const { ROOT_CONTEXT, trace } = await import("@opentelemetry/api");

const exporter = new OTLPLogExporter();
const send = exporter.export.bind(exporter);
exporter.export = (records, done) =>
  send(records, (result) => {
    if (result.code !== 0) calls.errors.push(`${records.length} records: ${result.error}`);
    done(result);
  });
const processor = new BatchLogRecordProcessor({
  exporter,
  maxExportBatchSize: 8,
  scheduledDelayMillis: 100,
  exportTimeoutMillis: 60_000,
});
const resource = defaultResource().merge(resourceFromAttributes({ "service.name": "shop" }));
const provider = new LoggerProvider({ resource, processors: [processor] });
const logger = provider.getLogger("shop.orders", "1.2.3");
const context = trace.setSpanContext(ROOT_CONTEXT, { traceId: TRACE, spanId: SPAN, traceFlags: 1 });
const { ["telemetry.sdk.version"]: version } = resource.attributes;

for (let index = 0; index < 40; index++) {
  const found = calls.row({
    name: `order ${index % 3}`,
    subject: `user-${index % 5}`,
    timestamp: (AT + index * 1000) * 1000,
    client_id: null,
    properties_have: { index, ...VALUES, message: `order ${index}` },
    context_has: { library: { name: "opentelemetry", version } },
    rest: {
      severityNumber: 9,
      severityText: "INFO",
      traceId: TRACE,
      spanId: SPAN,
      flags: 1,
      resource: { "service.name": "shop", "telemetry.sdk.language": "nodejs" },
      scope: { name: "shop.orders", version: "1.2.3" },
    },
  });
  logger.emit({
    context,
    timestamp: AT + index * 1000,
    severityNumber: 9,
    severityText: "INFO",
    eventName: `order ${index % 3}`,
    body: `order ${index}`,
    attributes: { index, ...VALUES, "user.id": `user-${index % 5}`, ...found },
  });
}
const deep = calls.row({ name: "$log", properties_have: { level: { deep: [1, "x"] }, n: 2 } });
logger.emit({ timestamp: AT, body: { level: { deep: [1, "x"] }, n: 2 }, attributes: deep });
const odd = calls.row({ name: "named", properties_have: { bytes: "/wA=", big: 9007199254740991 } });
const attributes = { "event.name": "named", bytes: new Uint8Array([255, 0]), big: Number.MAX_SAFE_INTEGER, ...odd };
logger.emit({ timestamp: AT, attributes });
const uid = calls.row({ name: "uid", client_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV" });
logger.emit({ timestamp: AT, eventName: "uid", attributes: { "log.record.uid": "01ARZ3NDEKTSV4RRFFQ69G5FAV", ...uid } });
await provider.shutdown();
calls.write(expectedFile);
process.exit();
