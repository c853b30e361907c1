# Each recipe is one plain command; `.ci/run` is everything.

# Everything that CI asks for.
check:
    ./.ci/run

# All tests, with what they need; arguments go to the test runner.
test *args:
    ./scripts/test {{ args }}

# The servers of the production stores, on free ports; their addresses are in target/services/env.
services-up:
    ./scripts/services install
    ./scripts/services up target/services

# Ends them; their data stays.
services-down:
    ./scripts/services down target/services

fmt:
    cargo fmt

clippy:
    cargo clippy --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

deny:
    cargo deny check bans licenses sources

# The figures of docs/benchmarks.md.
bench:
    cargo bench --bench figures

# CPU per request beside Fastify and NestJS, in turns.
peers:
    cargo build --release --bin eml
    ./bench/peers/run.py

demo:
    cargo run --release -- demo

# The long walk over the machines.
walks:
    EML_WALKS=100000 cargo test --release --test it walks

# Faults of every kind for an hour over three nodes, with the report, and each seeded bug.
chaos:
    EML_CHAOS_FOR=3600 EML_CHAOS_REPORT=docs/chaos.md ./scripts/test chaos::long

# The figures of a cluster; some take hours, so name one: `just cluster-figures takeover`.
cluster-figures name="":
    ./scripts/test --cargo-profile release --run-ignored only --no-capture -j 1 chaos::figures::{{ name }}

# The kill test.
kills:
    EML_KILLS=20 cargo test --release --test it kill_nine
