"""README.md against what it speaks of: the tree, the commands, the pages it links to."""

import importlib.util
import re
from pathlib import Path

from pyrad.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_tree_is_that_of_the_files():
    spec = importlib.util.spec_from_file_location("tree", ROOT / ".ci" / "tree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.with_tree(README) == README, "run: .venv/bin/python .ci/tree.py"
    assert "ingest/" in module.tree()


def test_every_page_and_record_it_links_to_is_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_it_shows_is_one():
    shown = set(re.findall(r"^    pyrad (\w+)", README, re.MULTILINE))
    assert shown
    assert shown <= set(COMMANDS)
