# An image that holds the rowcast binary, the authorities that sign certificates, and nothing else of ours.
#
#   docker build -t rowcast .
#   docker run --rm -p 127.0.0.1:8000:8000 -e DATABASE_URL=postgres://... -e ROWCAST_JWT_SECRET=... rowcast
#
# Both stages are the same Debian release, so that the binary finds the C library it was linked to.

FROM rust:1-bookworm AS builder
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin rowcast

FROM debian:bookworm-slim
# for sslmode=verify-full, rediss and jwks over https: without it every certificate is of an unknown authority
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rowcast
COPY --from=builder /src/target/release/rowcast /usr/local/bin/rowcast
# The number, not the name: Kubernetes' runAsNonRoot cannot tell from a name.
USER 10001:10001
# A container's own loopback, rowcast's default, is reached by nobody. Without a key or
# ROWCAST_ALLOW_ANONYMOUS=true rowcast refuses to start here, as anywhere beyond loopback.
ENV ROWCAST_LISTEN=0.0.0.0:8000
EXPOSE 8000
# Whether the process answers; a database that is away is no reason to restart it. With tls-certificate: --no-healthcheck
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["bash", "-c", "exec 3<>\"/dev/tcp/127.0.0.1/${ROWCAST_LISTEN##*:}\" && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.1 200 ' <&3"]
ENTRYPOINT ["rowcast"]
CMD ["serve"]
