"""docs/verification.md against what it speaks of: its tests, its counts, the files of the hostile archive."""

import ast
import re
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from hostile_files import hostile_files
from test_ingest_hostile_files import LINKS

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "verification.md").read_text()
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n\n(Cases: .*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
RESULTS = ("pass", "soak", "short")


def rows(section):
    """The cells of a section's rows: case, files (where it has that column), tests, result."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


EVERY = [row for section in SECTIONS for row in rows(section)]


@cache
def soak_by_test(file):
    """Test -> whether it is run by `make soak` alone."""
    tree = ast.parse((TESTS / f"{file}.py").read_text())
    words = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
    whole_file = any(text.startswith("pytestmark") and "mark.soak" in text for text in words)
    return {
        node.name: whole_file or "pytest.mark.soak" in map(ast.unparse, node.decorator_list)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def named(text):
    return re.findall(r"(test_\w+)::(test_\w+)", text)


def test_every_test_that_is_named_exists():
    assert len(named(PAGE)) > 200
    assert [name for name in named(PAGE) if name[1] not in soak_by_test(name[0])] == []


def counted(results):
    short = results.count("short")
    return f"{len(results)}, passed {len(results) - short}, short {short}."


@pytest.mark.parametrize("section", SECTIONS)
def test_the_counts_are_right(section):
    results = [row[-1] for row in rows(section)]
    assert set(results) <= set(RESULTS)
    assert SECTIONS[section].splitlines()[0] == f"Cases: {counted(results)}"


def test_the_sum_is_right():
    assert f"**All cases: {counted([row[-1] for row in EVERY])}**" in PAGE


def test_what_passes_has_a_test_and_says_when_it_runs():
    for case, *_, tests, result in EVERY:
        soak = [soak_by_test(file)[name] for file, name in named(tests)]
        assert soak or result == "short", case
        assert result == "short" or (result == "soak") == all(soak), case


def test_what_falls_short_is_listed():
    listed = re.findall(r"^- \*\*(.*?)\*\*", PAGE.partition("## What falls short")[2], re.MULTILINE)
    assert listed == [case for case, *_, result in EVERY if result == "short"]


def test_the_files_of_the_archive_are_those_of_the_page():
    names = [file.name for file in hostile_files()] + [*LINKS, "a folder.dcm"]
    patterns = [pattern for row in rows("Files") for pattern in row[1].split(", ") if pattern]
    assert [name for name in names if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in names)] == []
