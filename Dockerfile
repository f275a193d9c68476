# An image that holds the rowcast binary and nothing else of ours.
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
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rowcast
COPY --from=builder /src/target/release/rowcast /usr/local/bin/rowcast
# The number, not the name: Kubernetes' runAsNonRoot cannot tell from a name.
USER 10001:10001
# A container's own loopback, rowcast's default, is reached by nobody. Without a key or
# ROWCAST_ALLOW_ANONYMOUS=true rowcast refuses to start here, as anywhere beyond loopback.
ENV ROWCAST_LISTEN=0.0.0.0:8000
EXPOSE 8000
ENTRYPOINT ["rowcast"]
CMD ["serve"]
