"""Every benchmark still runs: a claim that cannot be repeated is no claim."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = [*sorted(BENCHMARKS.glob("*.py")), BENCHMARKS / "peers" / "run.py"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_smoke(script, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").glob("*")}
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script), "--smoke"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYRAD_DATA": str(tmp_path / "no images here")},
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip(), "it measured something"
    assert before == {path: path.stat().st_mtime_ns for path in (BENCHMARKS / "results").glob("*")}


def test_there_are_benchmarks():
    assert {"timing", "codec"} <= {script.stem for script in SCRIPTS}


@pytest.mark.parametrize("path", sorted((BENCHMARKS / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_result_says_where_it_comes_from(path):
    result = json.loads(path.read_text())
    assert {"benchmark", "date", "revision", "machine", "load_before", "options", "rows"} <= result.keys()
    assert result["rows"]
    assert {"processor", "cores", "memory_gib"} <= result["machine"].keys()
    assert os.uname().nodename not in path.read_text()
