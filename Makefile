# `make help` lists the targets: a line of text after ## is a target's description.

PREFIX  ?= /usr/local
SHIM    := containerd-shim-myshim-v2
TARGET  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
STATIC   = $(shell $(SETUP) target)
BUILT    = target/$(STATIC)/release/$(SHIM)
RELEASE := target/release/$(SHIM)
SETUP   := test-bundles/scripts/setup

.DEFAULT_GOAL := help
.PHONY: help demo test test-clients test-guest bench fuzz build install features lint deny clean root tools

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: root ## A container's whole life under the shim on a private containerd; installs what is missing (Debian), touches nothing else.
	@$(SETUP) run
	@$(MAKE) --no-print-directory build
	@cargo build -p test-bundles --no-default-features --bin demo
	@SHIM=$(CURDIR)/$(RELEASE) target/$(TARGET)/debug/demo .work/demo

test: root ## Every test, those on real containerds included: RUNTIME=io.containerd.runc.v2 proves the tests on the distribution's shim.
	@$(SETUP) test
	@$(MAKE) --no-print-directory build
	@cargo build --workspace
	@SHIM=$${SHIM:-$(CURDIR)/$(RELEASE)} cargo test --workspace --no-fail-fast $(ARGS)

test-clients: root ## critest, crictl, nerdctl and Docker on this shim beside runc, where ../shared/lab has them: 10 to 15 minutes.
	@test-bundles/scripts/clients --can || exit 0; \
	$(SETUP) test && $(MAKE) --no-print-directory build && \
	cargo test -p test-bundles --no-run --test clients_crictl --test clients_nerdctl --test clients_docker --test clients_table && \
	SHIM=$${SHIM:-$(CURDIR)/$(RELEASE)} test-bundles/scripts/clients

test-guest: root ## The tests that meet the kernel, in a guest with cgroup v2 under systemd, where ../shared/vm can make one.
	@test-bundles/scripts/guest --can || exit 0; \
	$(SETUP) test && $(MAKE) --no-print-directory build && mkdir -p .work && \
	cargo test --workspace --no-run --message-format=json >.work/guest-build.json && \
	SHIM=$${SHIM:-$(CURDIR)/$(RELEASE)} test-bundles/scripts/guest .work/guest-build.json

bench: root ## What a pod, a container and an exec cost, beside the distribution's runc shim; BENCH=write puts it into the README.
	@$(SETUP) run
	@$(MAKE) --no-print-directory build
	@cargo build --release -p test-bundles --no-default-features --bin bench
	@SHIM=$(CURDIR)/$(RELEASE) target/$(TARGET)/release/bench $(ARGS)

fuzz: ## Every fuzz target for SECONDS_EACH (60) on a stable toolchain; installs cargo-fuzz where it is missing.
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	@$(SETUP) fuzz
	@test-bundles/scripts/fuzz

build: tools ## The release binary, static and stripped, at target/release/containerd-shim-myshim-v2.
	@mkdir -p target/release
	LIBSECCOMP_LIB_PATH=$(CURDIR)/target/seccomp/$(STATIC) cargo rustc --release --package shim --bin $(SHIM) --target $(STATIC) -- -C link-arg=-Wl,-T,shim/no-unwinding.ld
	@ln -f $(BUILT) $(RELEASE)

tools:
	@$(SETUP) build

install: ## Puts the release binary into $(DESTDIR)$(PREFIX)/bin (default /usr/local/bin), where containerd finds it.
	@test -x $(RELEASE) || $(MAKE) --no-print-directory build
	install -D -m 755 $(RELEASE) $(DESTDIR)$(PREFIX)/bin/$(SHIM)
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/$(SHIM)/README.md

features: root ## Writes the table of the features document into the README.
	@cargo build -p test-bundles --no-default-features --bin oci --bin probe
	@FEATURES=write cargo test -p test-bundles --no-default-features --test features

lint: ## Format, clippy and documentation, every warning an error.
	@$(SETUP) test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

deny: ## Licences, bans and sources of the dependencies (installs cargo-deny when it is missing: some minutes).
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny --all-features check licenses bans sources
	@if [ -n "$(ADVISORIES)" ]; then cargo deny --all-features check advisories; \
	else echo "advisories not checked: ADVISORIES=1 fetches their database"; fi

clean: ## Removes what was built and what the demo keeps.
	cargo clean
	rm -rf .work

root:
	@[ "$$(uname -s)" = Linux ] && [ "$$(id -u)" = 0 ] || { echo "this needs root on Linux: containers are made of its namespaces, mounts and cgroups" >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "this needs a Rust toolchain: https://rustup.rs" >&2; exit 1; }
