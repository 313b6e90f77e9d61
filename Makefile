# A thin front for Meson: `make help` lists what there is.

BUILD := build
FUZZ_SECONDS ?= 60
PREFIX ?=
export FUZZ_SECONDS

.PHONY: build setup guest guest-debian run check check-long bench fuzz fmt install clean help
.DEFAULT_GOAL := build

build: setup $(BUILD)/build.ninja ## compile ring3 and its tests into build/ (the default)
	@ninja -C $(BUILD)

setup: ## install the Debian packages that are missing (needs root or sudo only then)
	@tools/setup

$(BUILD)/build.ninja: | setup
	meson setup $(BUILD)

guest: build ## make the default guest in build/guest (downloads a Debian kernel once)
	@tools/guest --agent $(BUILD)/src/agent/agent

guest-debian: build ## make build/guest/debian.img, a disk with Debian: make guest-debian ARGS="--with gcc"
	@tools/guest debian --agent $(BUILD)/src/agent/agent $(ARGS)

run: ARGS ?= -- uname -a
run: guest ## boot the default guest and run a command: make run ARGS="-- uname -a"
	@$(BUILD)/ring3 run $(ARGS)

check: setup ## run the tests; the last line counts them
	@tools/check

check-long: setup ## run the tests that take long
	@tools/check --long

bench: guest ## the same work natively, in ring3 and in QEMU: make bench ARGS="--quick"
	@tools/setup --bench || echo "make bench: going on without QEMU" >&2
	@bench/run $(ARGS)

fuzz: setup ## run each fuzz target for FUZZ_SECONDS (60)
	@tools/fuzz

fmt: setup ## format the sources
	@find $(wildcard src tests bench) -name '*.[ch]' -exec clang-format -i {} +

install: build ## install below PREFIX (/usr/local), respecting DESTDIR
	$(if $(PREFIX),meson configure $(BUILD) -Dprefix=$(abspath $(PREFIX)))
	meson install -C $(BUILD)

clean: ## remove what the other targets made
	rm -rf $(BUILD) build-asan build-clang build-fuzz

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
