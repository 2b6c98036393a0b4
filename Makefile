# SPDX-License-Identifier: Apache-2.0
# The commands of the README. Meson does the building; this only names the steps.
PYTHON ?= /usr/bin/python3
SANITIZE = -Dfailpoints=true -Db_sanitize=address,undefined -Dwerror=true
export ASAN_OPTIONS ?= detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS ?= print_stacktrace=1:halt_on_error=1

help:
	@echo "make test   installs what is needed, and runs every test under ASan and UBSan"
	@echo "make lint   include directions, sizes, texts"
	@echo "make build  builds into build/"
	@echo "make clean  removes build/ and build-test/"

build:
	@tools/setup build
	@test -f build/build.ninja || meson setup build --buildtype=release -Dtests=false >/dev/null
	@ninja -C build --quiet

test:
	@tools/setup test
	@test -f build-test/build.ninja || meson setup build-test $(SANITIZE) >/dev/null
	@ninja -C build-test --quiet
	@$(PYTHON) tools/test build-test $(ONLY)

lint:
	@tools/setup build
	@$(PYTHON) tools/lint

clean:
	rm -rf build build-test

.PHONY: help build test lint clean
