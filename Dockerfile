# An image that holds the rowcast binary, the libraries that it loads, the authorities that sign certificates, and nothing
# else: no shell, no package manager. For each architecture that both Rust and Debian have.
#
#   docker build -t rowcast .
#   docker run --rm -p 127.0.0.1:8000:8000 -e DATABASE_URL=postgres://... -e ROWCAST_JWT_SECRET=... rowcast

# The version of rust-toolchain.toml. RELEASING.md says how a digest comes behind it.
FROM rust:1.95.0-bookworm AS builder
WORKDIR /src
COPY . .
# the compiler of the image, and not what rust-toolchain.toml asks rustup for beside it
RUN RUSTUP_TOOLCHAIN="$RUST_VERSION" cargo build --release --locked --bin rowcast \
 && scripts/image-root target/release/rowcast /image

FROM scratch
COPY --from=builder /image /
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/rowcast/
# The number, not the name: Kubernetes' runAsNonRoot cannot tell from a name.
USER 10001:10001
# A container's own loopback, rowcast's default, is reached by nobody. Without a key or
# ROWCAST_ALLOW_ANONYMOUS=true rowcast refuses to start here, as anywhere beyond loopback.
ENV PATH=/usr/local/bin ROWCAST_LISTEN=0.0.0.0:8000
EXPOSE 8000
# Whether the process answers; a database that is away is no reason to restart it. With tls-certificate: --no-healthcheck
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["rowcast", "status", "--healthy"]
ENTRYPOINT ["rowcast"]
CMD ["serve"]
