# The version of Rust that the project is developed with.
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /src
COPY . .
# The target folder is a cache of the builder and not part of the image, so the program is copied out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin secateur \
    && install -D target/release/secateur /out/secateur

FROM debian:bookworm-slim
# The roots that the hub's certificate is checked against.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /data --no-create-home --shell /usr/sbin/nologin secateur \
    && install -d -o secateur -g secateur -m 0750 /data
COPY --from=build /out/secateur /usr/local/bin/secateur
USER 10001:10001
# The database and the artifacts go to ./secateur-data, downloaded models to the Hugging Face cache: all in one volume.
# On all interfaces of the container; outside of it is reachable what is published.
ENV HF_HOME=/data/huggingface \
    SECATEUR_LISTEN=0.0.0.0:8484
WORKDIR /data
VOLUME /data
EXPOSE 8484
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["secateur", "healthcheck"]
ENTRYPOINT ["secateur"]
# Stops with a message on all interfaces without --insecure-no-auth: whoever reaches the port can prune and download.
CMD ["serve"]
