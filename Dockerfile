# The three programs in one small image; the command says which one runs: worker, beat or
# jwt_manage. Builder and final image are the same Debian, so that libpq matches.

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpq-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The caches keep dependencies built between two builds; the programs leave them by the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/source/target,sharing=locked \
    cargo build --release --locked -p worker -p beat -p manage \
    && install -D --target-directory /programs \
        target/release/worker target/release/beat target/release/jwt_manage

FROM debian:bookworm-slim
# libpq5 is all that the programs load; the certificates are for rediss:// and PostgreSQL over TLS.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libpq5 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 /data
COPY --from=build /programs/ /usr/local/bin/
USER 10001:10001
WORKDIR /data
STOPSIGNAL SIGTERM
CMD ["worker"]
