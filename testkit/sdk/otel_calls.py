"""Makes log records with OpenTelemetry's SDK for Python, and writes what the store must contain of each.

usage: otel_calls.py SDK HOST KEY EXPECTED_FILE

SDK is otel (without compression) or otel-gzip. See call_list.py for EXPECTED_FILE. The exporter is configured as
docs/moving/opentelemetry.md says, by its environment variables.
"""

import os
import sys

from call_list import CallList

NANOS = 1_795_168_800_123_456_789
VALUES = {"price": 19.99, "city": "Zürich 東京 🚀", "paid": True, "big": 9_223_372_036_854_775_807, "tags": ("a", "b")}
TRACE, SPAN = 0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174
LIBRARY = {"library": {"name": "opentelemetry", "version": "1.45.2"}}


def configure(sdk, host, key):
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = host
    os.environ["OTEL_EXPORTER_OTLP_HEADERS"] = f"Authorization=Bearer%20{key}"
    os.environ["OTEL_EXPORTER_OTLP_COMPRESSION"] = "gzip" if sdk == "otel-gzip" else "none"
    # The faults take some attempts.
    os.environ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "60"


def provider_of(calls):
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
    from opentelemetry.sdk.resources import Resource

    class Exporter(OTLPLogExporter):
        def export(self, batch):
            result = super().export(batch)
            if result is not LogRecordExportResult.SUCCESS:
                calls.errors.append(f"{len(batch)} records were not exported")
            return result

    provider = LoggerProvider(resource=Resource.create({"service.name": "shop", "service.instance.id": "shop-1"}))
    processor = BatchLogRecordProcessor(Exporter(), max_export_batch_size=8, schedule_delay_millis=100)
    provider.add_log_record_processor(processor)
    return provider


def emit_all(calls, logger):
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    span = SpanContext(TRACE, SPAN, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    context = set_span_in_context(NonRecordingSpan(span))
    for index in range(40):
        values = {"index": index, **VALUES}
        case = calls.row(
            name=f"order {index % 3}",
            subject=f"user-{index % 5}",
            timestamp=NANOS // 1000 + index * 1_000_000,
            client_id=None,
            properties_have={**values, "tags": ["a", "b"], "message": f"order {index}"},
            context_has=LIBRARY,
            rest={
                "severityNumber": 9,
                "severityText": "INFO",
                "traceId": f"{TRACE:032x}",
                "spanId": f"{SPAN:016x}",
                "flags": 1,
                "observedTimeUnixNano": NANOS + 5,
                "resource": {
                    "telemetry.sdk.language": "python",
                    "service.name": "shop",
                    "service.instance.id": "shop-1",
                },
                "scope": {"name": "shop.orders", "version": "1.2.3", "attributes": {"part": "web"}},
            },
        )
        record = LogRecord(
            timestamp=NANOS + index * 1_000_000_000,
            observed_timestamp=NANOS + 5,
            context=context,
            severity_text="INFO",
            severity_number=SeverityNumber.INFO,
            body=f"order {index}",
            attributes={**values, "user.id": f"user-{index % 5}", **case},
            event_name=f"order {index % 3}",
        )
        logger.emit(record)
    case = calls.row(name="$log", timestamp=NANOS // 1000, properties_have={"level": {"deep": [1, "x"]}, "n": 2})
    logger.emit(LogRecord(observed_timestamp=NANOS, body={"level": {"deep": [1, "x"]}, "n": 2}, attributes=case))
    case = calls.row(name="named", properties_have={"nan": "NaN", "bytes": "/wA=", "less": "-Infinity"})
    odd = {"event.name": "named", "nan": float("nan"), "bytes": b"\xff\x00", "less": float("-inf"), **case}
    logger.emit(LogRecord(timestamp=NANOS, observed_timestamp=NANOS, attributes=odd))
    case = calls.row(name="uid", client_id="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    uid = {"log.record.uid": "01ARZ3NDEKTSV4RRFFQ69G5FAV", **case}
    logger.emit(LogRecord(timestamp=NANOS, observed_timestamp=NANOS, event_name="uid", attributes=uid))


def main(sdk, host, key, expected_file):
    configure(sdk, host, key)
    calls = CallList(sdk, "otel")
    provider = provider_of(calls)
    emit_all(calls, provider.get_logger("shop.orders", "1.2.3", attributes={"part": "web"}))
    provider.shutdown()
    calls.write(expected_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
