"""The fuzz targets on seeds, on the corpus of earlier runs, and for a moment guided; `make soak` goes on."""

import importlib.util
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import native
import pytest
import seeds
import targets

FUZZ = Path(native.__file__).parent
MUTATIONS = {"image_file": 20, "label_table": 300, "outline_file": 300, "store_root": 200, "store_file": 5}


def inputs(target, folder):
    """Seeds made by code, and what is kept of the corpus."""
    seeds.write_seeds(target, folder)
    kept = FUZZ / "corpus" / target
    return [path.read_bytes() for path in (*sorted(folder.iterdir()), *sorted(kept.glob("*")))]


@pytest.mark.filterwarnings("ignore")  # targets mute their own
@pytest.mark.parametrize("target", targets.TARGETS)
def test_damaged_inputs_are_answered(target, tmp_path):
    check = targets.TARGETS[target]()
    draw = random.Random(0)  # noqa: S311 - mutations
    for data in inputs(target, tmp_path):
        check(data)
        for _ in range(MUTATIONS[target] if len(data) < 4000 else 2):
            check(mutated(data, draw))


def mutated(data, draw):
    """A few bytes changed, and now and then the end cut off."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed[: draw.randrange(len(changed) + 1)] if draw.random() < 0.2 else changed)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the C++ targets need g++")
@pytest.mark.parametrize("target", native.SOURCES)
def test_the_compiled_core_stays_inside_its_memory(target, tmp_path):
    native.write_seeds(target, tmp_path / "seeds")
    folders = [tmp_path / "seeds", *(path for path in [FUZZ / "corpus" / target] if path.is_dir())]
    binary = native.build(target, tmp_path, guided=False)
    ended = subprocess.run([binary, "30", *folders], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_a_moment_of_guided_fuzzing(tmp_path):
    seeds.write_seeds("label_table", tmp_path / "seeds")
    command = [sys.executable, FUZZ / "guided.py", "label_table", "-runs=3000", tmp_path / "seeds"]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "cov:" in ended.stderr  # it was guided by coverage
