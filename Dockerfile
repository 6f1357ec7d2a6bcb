# syntax=docker/dockerfile:1
# Two images: `programs` contains the three programs, `load` contains Locust and `millrace`. compose.yaml starts them by name.

FROM rust:1.95-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# Dependencies first, with empty crates: this layer is rebuilt only when a manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY shared/address/Cargo.toml shared/address/
COPY shared/event/Cargo.toml shared/event/
COPY shared/failpoint/Cargo.toml shared/failpoint/
COPY shared/telemetry/Cargo.toml shared/telemetry/
COPY shared/stream/Cargo.toml shared/stream/
COPY shared/store/Cargo.toml shared/store/
COPY shared/reconcile/Cargo.toml shared/reconcile/
COPY shared/settings/Cargo.toml shared/settings/
COPY ingest-api/Cargo.toml ingest-api/
COPY stream-worker/Cargo.toml stream-worker/
COPY millrace/Cargo.toml millrace/
COPY testkit/Cargo.toml testkit/
COPY bench/Cargo.toml bench/
COPY faults/Cargo.toml faults/
COPY faults/mutants/Cargo.toml faults/mutants/
# Cargo requires the sources of every workspace member, and every test target that a manifest names.
# hadolint ignore=SC2013
RUN for crate in shared/* ingest-api stream-worker millrace testkit bench faults faults/mutants; do \
        mkdir "$crate/src" "$crate/tests" && touch "$crate/src/lib.rs" && echo 'fn main() {}' >"$crate/src/main.rs" || exit 1; \
        for test in $(sed -n '/^\[\[test\]\]/{n;s/^name = "\(.*\)"/\1/p}' "$crate/Cargo.toml"); do \
            touch "$crate/tests/$test.rs" || exit 1; \
        done; \
    done \
    && cargo build --release --locked -p ingest-api -p stream-worker -p millrace \
    && rm -r shared/*/src ingest-api/src stream-worker/src millrace/src

COPY sql sql
COPY shared shared
COPY ingest-api ingest-api
COPY stream-worker stream-worker
COPY millrace millrace
# Cargo compares times. Sources can be older than the empty crates built above, and must not pass for them.
RUN find shared ingest-api stream-worker millrace -name '*.rs' -exec touch {} + \
    && cargo build --release --locked -p ingest-api -p stream-worker -p millrace \
    && install -D -t /out target/release/ingest-api target/release/stream-worker target/release/millrace

FROM python:3.11-slim-bookworm AS load
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin millrace \
    && install -d -o millrace /load/target/load
COPY locust/requirements.txt /load/locust/
RUN pip install --no-cache-dir --disable-pip-version-check -r /load/locust/requirements.txt
COPY --from=build /out/millrace /usr/local/bin/
COPY locust /load/locust
ENV PYTHONPATH=/load/locust PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /load
CMD ["python", "-m", "load", "--help"]

FROM debian:bookworm-slim AS programs
# The CAs by which a worker checks the endpoints of webhooks.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin millrace
COPY --from=build /out/ /usr/local/bin/
COPY --chmod=755 compose/welcome compose/http-ok /usr/local/bin/
USER 10001
CMD ["millrace", "--help"]
