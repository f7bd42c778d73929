# Two commands: `make demo` and `make test`. Each sets up whatever is missing, once.
# `make venv` alone makes .venv with the programs attestor, verifier and credential in it.

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
VENV := build/venv.stamp
ROOMS := $(patsubst %/__init__.py,%,$(wildcard $(addsuffix /__init__.py,evidence credential attestor verifier swtpm demo)))

# Programs for the virtual machine, written in C: they are put in its /usr/bin.
PROGRAMS := $(patsubst demo/%.c,build/vm/extra/usr/bin/%,$(wildcard demo/*.c))
# The demo's attackers: put into the machine by a user of it, and known to nobody.
ATTACKERS := build/attacks/attacker build/attacks/preloaded.so

.PHONY: help venv setup machine test kernels check check-readme fuzz bench demo lab clean

help:
	@echo "make demo    set up, boot a machine in software, and show what gets a credential and what does not"
	@echo "make test    set up, and run all tests"
	@echo "make check   ruff, mypy, the architecture test, the pages that are made or checked"
	@echo "make kernels boot every kernel of the package mirror, judge what each measures, attack it (hours)"
	@echo "make fuzz    try the parsers with what breaks parsers [SECONDS=60] [TARGET=name]"
	@echo "make bench   what it costs to accept and to refuse, against a baseline of the same run"
	@echo "make lab     boot the machine, enrol it, and give a shell in it"
	@echo "make venv    only .venv"

$(VENV): pyproject.toml swtpm/host-packages
	@swtpm/host-packages
	@echo "setup: .venv, with tpm2-pytss compiled (about a minute)"
	@/usr/bin/python3 -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check -e '.[attestor,verifier,postgresql,dev]'
	@mkdir -p build && touch $@

venv: $(VENV)

build/vm/extra/usr/bin/%: demo/%.c
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -o $@ $< -lssl -lcrypto

build/attacks/%: demo/attacks/%.c
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -o $@ $<

build/attacks/%.so: demo/attacks/%.c
	@mkdir -p $(@D)
	gcc -O2 -shared -fPIC -Wall -Wextra -o $@ $<

# Kernels, files and disk of the virtual machine; quick when nothing changed: it compares digests.
machine: $(VENV) $(PROGRAMS) $(ATTACKERS)
	@$(PYTHON) -m swtpm setup

setup: machine

# Two at a time, each machine's tests together (tests/workers.py).
test: setup
	$(PYTHON) -m pytest -n 2 --dist loadscope $(ARGS)

# Every kernel that the mirror has, the newest of each series with every template; the attacks on
# processes are played on the newest of each series too. Ends with a table of the kernels.
# ARGS="--kernel newest", "--kernel 6.18 --ima-template ima-ng" for less.
kernels: setup
	$(PYTHON) -m pytest tests/kernels tests/attacks -m vm -n 2 --dist loadscope -v $(if $(ARGS),$(ARGS),--kernel all)

check: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy $(addprefix -p ,$(ROOMS) benchmarks tests)
	$(PYTHON) -m pytest -q tests/test_architecture.py
	@# It collects every test, and tests/asked_fixtures.py judges each that is collected.
	$(PYTHON) tests/attacks/threat_model.py --check
	@$(MAKE) --no-print-directory check-readme

# The README's help blocks and names; `$(PYTHON) tests/test_readme.py --write` mends the blocks.
check-readme: $(VENV)
	$(PYTHON) -m pytest -q tests/test_readme.py

# Each target in a process of its own; the corpus grows in build/fuzz.
SECONDS := 60
FUZZ := build/fuzz.stamp

$(FUZZ): $(VENV)
	@.venv/bin/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	@touch $@

fuzz: $(FUZZ)
	@$(PYTHON) -m tests.fuzz --seconds $(SECONDS) $(TARGET)

bench: $(VENV)
	@$(PYTHON) -m benchmarks $(ARGS)

demo: setup
	@$(PYTHON) -m demo $(ARGS)

lab: setup
	@$(PYTHON) -m demo --shell $(ARGS)

clean:
	rm -rf build
