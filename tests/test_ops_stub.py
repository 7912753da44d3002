"""The typed face of the compiled core is generated, never written: it must be what the generator says."""

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

STUB = Path(__file__).parents[1] / "pyrad" / "_C.pyi"
COMMAND = (sys.executable, "-m", "pybind11_stubgen", "pyrad._C", "--exit-code", "--output-dir")


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="the stub is generated on 3.11; later Pythons name types differently",
)
def test_the_stub_is_what_the_generator_writes(tmp_path):
    run = subprocess.run([*COMMAND, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    generated = (tmp_path / "pyrad" / "_C.pyi").read_text()
    difference = "".join(
        difflib.unified_diff(
            STUB.read_text().splitlines(True), generated.splitlines(True), "checked in", "generated"
        )
    )
    assert not difference, (
        f"{difference}\nrun `python -m pybind11_stubgen pyrad._C --output-dir .` at the root of the checkout"
    )
