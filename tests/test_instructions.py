"""The core as compiled for another processor, under an emulator: the same bits as the portable code."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
SOURCES = (
    "tests/native/instructions.cpp",
    "csrc/decode.cpp",
    "csrc/encode.cpp",
    "csrc/encode_rice.cpp",
    "csrc/preprocess.cpp",
    "csrc/reader.cpp",
)


@pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which(EMULATOR) is None,
    reason=f"needs {COMPILER} and {EMULATOR} (Debian: g++-aarch64-linux-gnu, qemu-user)",
)
def test_neon_changes_no_bit(tmp_path):
    program = tmp_path / "instructions"
    flags = (
        "-std=c++17",
        "-O2",
        "-static",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-Wall",
        "-Wextra",
        "-Werror",
    )
    subprocess.run([COMPILER, *flags, "-Icsrc", *SOURCES, "-pthread", "-o", program], cwd=ROOT, check=True)
    said = subprocess.run([EMULATOR, program], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "neon: 800 images agree\n")
