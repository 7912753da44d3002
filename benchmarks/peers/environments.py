"""requirements/NAME.txt -> a virtual environment with those packages, made once and kept.

An environment sees the packages of the one that runs this (torch, numpy, Pillow and their like), so that all
peers share them; what it installs itself comes first. Every file lists exact versions, dependencies and all,
and nothing else is installed (--no-deps). Where a package must be built, NAME.build.txt is installed before.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

PIP_MINUTES = 20


class InstallError(Exception):
    """A peer cannot be installed; the message is pip's last word."""


def python_of(requirements: Path, folder: Path) -> str:
    """Return the interpreter of the environment for ``requirements``, making it in ``folder`` if need be."""
    if not requirements.is_file():
        return sys.executable
    files = [path for path in (requirements.with_suffix(".build.txt"), requirements) if path.is_file()]
    home = folder / requirements.stem
    python = home / "bin" / "python"
    stamp = home / "installed"
    shared = "\n".join(path for path in sys.path if path.endswith("-packages"))
    wanted = hashlib.sha256(b"".join([shared.encode(), *(path.read_bytes() for path in files)])).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == wanted):
        venv.create(home, clear=True, symlinks=True)
        own = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (own / "shared.pth").write_text(shared)
        for path in files:
            _install(path, python)
        stamp.write_text(wanted)
    return str(python)


def _install(requirements: Path, python: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--disable-pip-version-check", "-r", str(requirements)]
    run = subprocess.run(  # noqa: S603
        [*command, *options], capture_output=True, text=True, check=False, timeout=60 * PIP_MINUTES
    )
    if run.returncode:
        words = [line for line in run.stderr.splitlines() if "error" in line.lower()] or ["pip failed"]
        raise InstallError(words[-1].strip())
