# Two commands: `make demo` runs the main job, `make test` runs every test. Each sets up what it needs in .venv.
.PHONY: demo test soak lint setup stub clean

PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.ready
NATIVE := $(wildcard csrc/*) CMakeLists.txt
DATA   ?=
TABLE  ?=
OUT    ?= demo
SOAK_SECONDS ?= 3600

demo: $(STAMP)
	@bash pipelines/demo.sh "$(DATA)" "$(TABLE)" "$(OUT)"

test: $(STAMP) lint
	$(BIN)/pytest

# The long ones: a fault at every call that writes, nodes that die, an hour of fuzzing (SOAK_SECONDS changes that).
soak: $(STAMP)
	$(BIN)/pytest -m soak -s
	$(BIN)/python -W ignore tests/fuzz/run.py --seconds $(SOAK_SECONDS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/clang-format --dry-run --Werror csrc/*.h csrc/*.inc csrc/*.cpp csrc/*.cu tests/native/*.cpp benchmarks/*.cpp
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

setup: $(STAMP)

# The pinned torch comes first: whatever is installed after it then finds its demand for torch already met.
$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setting up .venv (about three minutes the first time; log: .venv/setup.log)"
	@export PIP_CONSTRAINT=$(CURDIR)/constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1; \
	{ $(BIN)/python -m pip install torch && $(BIN)/python -m pip install -e '.[dev]'; } > .venv/setup.log 2>&1 \
	|| { tail -n 30 .venv/setup.log; echo "set-up failed; the whole log is .venv/setup.log"; exit 1; }
	@touch $@

# Regenerate the checked-in stub after a change of csrc/bind.cpp.
stub: $(STAMP)
	$(BIN)/python -m pybind11_stubgen pyrad._C --exit-code --output-dir .

clean:
	rm -rf .venv build demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
