# Two commands: `make demo` shows a node that roams, `make test` proves it. Both install what is missing first.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
# Only a Python with its headers and venv can build us; Debian's own is the fallback.
PYTHON ?= python3
STAMP := $(VENV)/.installed
ENGINE := $(VENV)/.engine
C_SOURCES := $(wildcard lispmob/datapath/c/*/*.[ch] lispmob/datapath/bpf/*.[ch] lispmob/datapath/bpf/lib/*.h \
	lispmob/datapath/build_ffi.py lispmob/crypto/*.[ch] lispmob/crypto/build_ffi.py setup.py)

DBUSMOCK := /usr/lib/python3/dist-packages/dbusmock/__init__.py
# Not where systemd runs: there it would start at once, and take over a network that others look after.
MANAGER := $(if $(wildcard /run/systemd/system),,network-manager:NetworkManager)
# libFuzzer comes with the runtime of the clang that is installed or would be.
CLANG := $(shell clang -dumpversion 2>/dev/null | cut -d. -f1)
FUZZER := $(shell clang -print-runtime-dir 2>/dev/null)/libclang_rt.fuzzer-$(shell uname -m).a
LIBFUZZER := $(if $(CLANG),libclang-rt-$(CLANG)-dev,libclang-rt-dev):$(FUZZER)
# A faster AES-GCM, which only amd64 has; the name of the library's own package differs from release to release.
IPSEC_MB := $(if $(filter x86_64,$(shell uname -m)),libipsec-mb-dev:/usr/include/intel-ipsec-mb.h)
# Debian packages, and the command or file that tells whether each is there.
APT_PACKAGES := gcc:gcc libc6-dev:/usr/include/stdio.h clang:clang $(LIBFUZZER) libbpf-dev:/usr/include/bpf/bpf_helpers.h libssl-dev:/usr/include/openssl/evp.h $(IPSEC_MB) iproute2:ip iptables:iptables-restore \
	nftables:nft redis-tools:redis-cli conntrack:conntrack iperf3:iperf3 ethtool:ethtool iputils-ping:ping tshark:tshark musl-tools:musl-gcc \
	dbus:dbus-daemon libglib2.0-bin:gdbus dnsmasq-base:dnsmasq python3-dbusmock:$(DBUSMOCK) $(MANAGER)

# Most tests wait for packets on their way, each in namespaces of its own: three at a time fit on two processors.
WORKERS ?= -n 3 --dist loadfile

.PHONY: help setup build test pure netns interop check demo bench clean
help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

setup: $(ENGINE)  ## install what is missing, and build the C part

.PHONY: system
system:
	@missing=(); for pair in $(APT_PACKAGES); do \
	  case "$${pair#*:}" in /*) test -e "$${pair#*:}" ;; *) command -v "$${pair#*:}" >/dev/null ;; esac || missing+=("$${pair%%:*}"); \
	done; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv); \
	$(PYTHON) -c 'import os, sysconfig, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null \
	  || missing+=(python3-dev); \
	if [ $${#missing[@]} -gt 0 ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing: $${missing[*]}"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $${missing[*]} >/dev/null; \
	  else \
	    echo "missing: $${missing[*]}. Install them as root (apt-get install $${missing[*]}); what needs them is left out." >&2; \
	  fi; \
	fi

$(STAMP): pyproject.toml setup.py | system
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check wheel
	@$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[dev,demo]'
	@touch $@

$(ENGINE): $(STAMP) $(C_SOURCES)
	@$(PY) -W ignore setup.py --quiet build_ext --inplace --force
	@touch $@

build: $(ENGINE)

C_TEXTS = $(shell git ls-files '*.c' '*.h' 2>/dev/null)

.PHONY: format
format: $(ENGINE)  ## lay out Python and C as `make check` wants them
	@$(VENV)/bin/ruff check --fix --quiet .
	@$(VENV)/bin/ruff format --quiet .
	@$(VENV)/bin/clang-format -i $(C_TEXTS)

check: $(ENGINE)  ## formatting, lint, types
	@$(VENV)/bin/ruff format --check .
	@test -z '$(C_TEXTS)' || $(VENV)/bin/clang-format --dry-run --Werror $(C_TEXTS)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

pure: $(ENGINE)  ## the tests that need no root: seconds
	@$(PY) -m pytest -q $(WORKERS) -m 'not netns'

netns: $(ENGINE)  ## the tests on real network namespaces: minutes; needs root
	@$(PY) -m pytest -q $(WORKERS) -m netns

interop: $(ENGINE)  ## traffic with peers that others wrote: OOR=, LISPERS_NET= where they are; needs root
	@OOR='$(OOR)' LISPERS_NET='$(LISPERS_NET)' LISPERS_NET_PYTHON='$(or $(LISPERS_NET_PYTHON),python3)' \
	  INTEROP_TABLE=build/interop.md $(PY) -m pytest -q -rs tests/interop

test: check  ## everything that must hold; without root the namespace tests are left out
	@test "$$(id -u)" = 0 || echo 'Not root: the tests on network namespaces are skipped; the rest runs. For all of them: sudo make test' >&2
	@$(PY) -m tests.suite $(WORKERS)

demo: $(ENGINE)  ## two nodes roam between networks, on real packets; needs root
	@test "$$(id -u)" = 0 || { echo 'make demo makes network namespaces and needs root: sudo make demo' >&2; exit 77; }
	@$(PY) -m compileall -q lispmob  # as in every installation: a daemon does not compile itself at each start
	@$(PY) -m lispmob.lab.demo

# Inputs for each target: seconds of it are part of `make test`, millions are for a night.
RUNS ?= 1000000

.PHONY: fuzz
fuzz: $(ENGINE)  ## every decoder, the C parsers and the way in, and both machines; RUNS=1000000 inputs each
	@mkdir -p build/fuzz/found
	@$(PY) -m tests.fuzz.corpus build/fuzz/corpus
	@$(PY) -m tests.fuzz.build build/fuzz
	build/fuzz/fuzz_packets build/fuzz/corpus/data -runs=$(RUNS) -max_len=1600 -artifact_prefix=build/fuzz/found/
	build/fuzz/fuzz_inbound build/fuzz/corpus/data -runs=$(RUNS) -max_len=1600 -artifact_prefix=build/fuzz/found/
	$(PY) -m tests.fuzz.wire build/fuzz/corpus/control -runs=$(RUNS) -max_len=1600 -artifact_prefix=build/fuzz/found/
	FUZZ_RUNS=$(RUNS) $(PY) -m pytest -q --timeout=0 tests/fuzz/test_machines.py

.PHONY: fuzz-night
fuzz-night: $(ENGINE)  ## 100 million inputs to the C side and 10 million to the decoders, side by side; MINUTES=600 at most
	@$(PY) -m tests.fuzz.night build/fuzz/night --minutes $(or $(MINUTES),0)

bench: $(ENGINE)  ## the datapath beside bare veth, kernel VXLAN and plain TUN; needs root
	@test "$$(id -u)" = 0 || { echo 'make bench makes network namespaces and needs root: sudo make bench' >&2; exit 77; }
	@$(PY) -m compileall -q lispmob  # as for the demo
	@$(PY) -m lispmob.lab.bench

.PHONY: flood-bench
flood-bench: $(ENGINE)  ## junk and the worst questions at a node of each tier, and at a hub with 10,000 EIDs: eight minutes; needs root
	@test "$$(id -u)" = 0 || { echo 'make flood-bench makes network namespaces and needs root: sudo make flood-bench' >&2; exit 77; }
	@$(PY) -m lispmob.lab.bench --case flood --path tun --path ebpf --rounds 2 --minutes 8 --output build/bench-flood

.PHONY: hub-bench
hub-bench: $(ENGINE)  ## the hub: processor time, rates, latency, start, memory; needs root
	@test "$$(id -u)" = 0 || { echo 'make hub-bench makes network namespaces and needs root: sudo make hub-bench' >&2; exit 77; }
	@$(PY) -m lispmob.lab.bench.hub

# Ten million take about 6 GB in the servers.
SIZE ?= 10000000

.PHONY: hub-size
hub-size: $(ENGINE)  ## what SIZE=10000000 registrations take in servers that hubs share; minutes and 6 GB; needs root
	@$(PY) -m lispmob.lab.bench.hub --size $(SIZE) --output build/hub-size

.PHONY: cluster-demo
cluster-demo: $(ENGINE)  ## six servers and three hubs: what nodes notice when one of them dies or is cut off; needs root
	@test "$$(id -u)" = 0 || { echo 'make cluster-demo makes network namespaces and needs root: sudo make cluster-demo' >&2; exit 77; }
	@$(PY) -m lispmob.lab.cluster

.PHONY: docs
docs: $(ENGINE)  ## the pages that are drawn from the code
	@$(PY) -m docs.architecture > docs/architecture.md
	@$(PY) -m docs.machines > docs/machines.md
	@$(PY) -m docs.limits > docs/limits.md
	@$(PY) -m docs.library > docs/library.md

.PHONY: changelog
changelog: $(ENGINE)  ## what the next version's part of CHANGELOG.md will be; VERSION=0.2.0 writes it
	@$(VENV)/bin/towncrier build $(if $(VERSION),--yes --version $(VERSION),--draft --version next)

include packaging/package.mk

clean:  ## remove what was built
	rm -rf build dist *.egg-info $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis lispmob/datapath/_lispdp.* lispmob/crypto/_lispcrypto.* lispmob/datapath/bpf/*.o
