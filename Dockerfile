# syntax=docker/dockerfile:1
# One image with the three programs; compose.yaml starts each of them by name.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Dependencies and everything that did not change come from the cache; only the programs leave it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p ingest-api -p stream-worker -p millrace \
    && install -D -t /out target/release/ingest-api target/release/stream-worker target/release/millrace

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin millrace
COPY --from=build /out/ /usr/local/bin/
# Health checks without a client in the image: http-ok PORT PATH
COPY --chmod=755 <<'EOF' /usr/local/bin/http-ok
#!/bin/bash
set -e
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
read -r _ status _ <&3
[ "$status" = 200 ]
EOF
USER millrace
CMD ["millrace", "--help"]
