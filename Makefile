# SPDX-License-Identifier: Apache-2.0
# The commands of the README. Meson does the building; this only names the steps.
PYTHON ?= /usr/bin/python3
SANITIZE = -Dfailpoints=true -Db_sanitize=address,undefined -Dwerror=true
export ASAN_OPTIONS ?= detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS ?= print_stacktrace=1:halt_on_error=1

help:
	@echo "make demo   installs what is needed, and searches real documents with six actors on this machine"
	@echo "make test   installs what is needed, and runs every test under ASan and UBSan"
	@echo "make fuzz   FUZZ_SECONDS=20 of each fuzzer (clang)"
	@echo "make tsan   the transports' tests under ThreadSanitizer"
	@echo "make valgrind  the same under valgrind"
	@echo "make lint   include directions, sizes, texts"
	@echo "make bench  the sidecar beside the floor: throughput, CPU, memory, start, latency (minutes)"
	@echo "make bench-quick  the same with less of everything (half a minute)"
	@echo "make soak   the crash test over 10,000 envelopes, a million messages through one sidecar,"
	@echo "            and 10 minutes of each fuzzer"
	@echo "make build  builds into build/"
	@echo "make docs   docs/settings.md, made of the tables of settings"
	@echo "make clean  removes every build directory"

build:
	@tools/setup build
	@test -f build/build.ninja || meson setup build --buildtype=release -Dtests=false >/dev/null
	@ninja -C build --quiet

# DOCS=FOLDER: other documents. ASK=QUESTION: another question.
demo: build
	@$(PYTHON) tools/demo build

build-test:
	@tools/setup test
	@test -f build-test/build.ninja || meson setup build-test $(SANITIZE) >/dev/null
	@ninja -C build-test --quiet

test: build-test
	@$(PYTHON) tools/test build-test $(ONLY)

# FUZZ_SECONDS a program; new inputs stay in build-fuzz/, findings too.
FUZZ_SECONDS ?= 20
FUZZERS = c_runtime envelope frame manifest reply
fuzz:
	@tools/setup test
	@test -f build-fuzz/build.ninja || CC=clang meson setup build-fuzz -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
	@ninja -C build-fuzz --quiet
	@for f in $(FUZZERS); do mkdir -p build-fuzz/corpus/$$f && \
		build-fuzz/tests/fuzz/fuzz-$$f -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -print_final_stats=0 -verbosity=0 \
		-artifact_prefix=build-fuzz/ build-fuzz/corpus/$$f tests/fuzz/corpus/$$f || exit 1; \
		echo "fuzz $$f: no finding in $(FUZZ_SECONDS) s"; done

# Where there are threads: the transports. Both build directories are as `make test` has it but for the tool.
THREADED = transport local_faults local_open local_power local_records
tsan:
	@tools/setup test
	@test -f build-tsan/build.ninja || meson setup build-tsan -Db_sanitize=thread -Dwerror=true >/dev/null
	@ninja -C build-tsan --quiet
	@for t in $(THREADED); do \
		TSAN_OPTIONS="halt_on_error=0 exitcode=66" \
		timeout 240 build-tsan/tests/*/test-$$t >build-tsan/$$t.log 2>&1 || { cat build-tsan/$$t.log; exit 1; }; \
		echo "tsan $$t: no finding"; done

valgrind:
	@tools/setup test
	@test -f build-valgrind/build.ninja || meson setup build-valgrind -Dwerror=true >/dev/null
	@ninja -C build-valgrind --quiet
	@for t in $(THREADED); do \
		ASYA_TEST_CUT_EVERY=5 timeout 240 valgrind -q --error-exitcode=1 --leak-check=full --child-silent-after-fork=yes \
		build-valgrind/tests/*/test-$$t >build-valgrind/$$t.log 2>&1 || { cat build-valgrind/$$t.log; exit 1; }; \
		echo "valgrind $$t: no finding"; done

build-bench:
	@tools/setup build
	@test -f build-bench/build.ninja || meson setup build-bench --buildtype=release -Dtests=false -Dbench=true >/dev/null
	@ninja -C build-bench --quiet

bench: build-bench
	@$(PYTHON) bench/run build-bench

bench-quick: build-bench
	@$(PYTHON) bench/run build-bench --quick

# The whole counts of what CI does a tenth of.
SOAK_MESSAGES ?= 1000000
SOAK_ENVELOPES ?= 10000
SOAK_FUZZ_SECONDS ?= 600
soak: build-test build-bench
	@ASYA_BUILD=$(CURDIR)/build-test ASYA_CRASH_ENVELOPES=$(SOAK_ENVELOPES) $(PYTHON) -m pytest -q -rP -p no:cacheprovider \
		tests/integration/test_crash.py
	@$(PYTHON) bench/run build-bench --soak $(SOAK_MESSAGES)
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=$(SOAK_FUZZ_SECONDS)

lint:
	@tools/setup build
	@$(PYTHON) tools/lint
	@$(PYTHON) tools/schema --check

docs: build
	@build/src/asya-sidecar --markdown > docs/settings.md

clean:
	rm -rf build build-bench build-test build-fuzz build-tsan build-valgrind

.PHONY: help build demo build-test test fuzz tsan valgrind build-bench bench bench-quick soak lint docs clean
