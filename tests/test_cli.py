"""The command line: options from dataclasses and TOML, one line for what is wrong, the right exit code."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyrad import cli, config
from pyrad.errors import UsageError
from pyrad.store import durable


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("PYRAD_SECRET", raising=False)


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (12, 10), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    return tmp_path / "pictures"


@dataclass(frozen=True, kw_only=True)
class Knobs:
    src: tuple[Path, ...] = field(metadata={"help": "where from", "positional": True})
    size: int = field(default=7, metadata={"help": "how big"})
    share: float = field(default=0.5, metadata={"help": "5% or so"})
    codec: str | None = field(default=None, metadata={"help": "which", "choices": ("a", "b")})
    names: tuple[str, ...] = field(default=(), metadata={"help": "some"})
    fast: bool = field(default=False, metadata={"help": "or not"})


def parse(words, toml=None):
    parser = config.Parser(prog="pyrad knobs")
    config.add_flags(parser, Knobs)
    return config.resolve(Knobs, vars(parser.parse_args(words)), toml, "knobs")


def test_every_field_is_a_flag():
    words = ["x", "y", "--size", "9", "--share", "0.25", "--codec", "b", "--names", "a, b", "--fast"]
    expected = Knobs(src=(Path("x"), Path("y")), size=9, share=0.25, codec="b", names=("a", "b"), fast=True)
    assert parse(words) == expected
    assert config.as_record(expected)["src"] == ["x", "y"]
    assert set(config.as_record(expected)) == {f.name for f in dataclasses.fields(Knobs)}


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    toml = tmp_path / "knobs.toml"
    toml.write_text('[knobs]\nsize = 8\nshare = 1\nnames = ["p"]\nfast = true\n')
    got = parse(["x", "--size", "9", "--no-fast"], toml)
    assert (got.size, got.share, got.names, got.fast) == (9, 1.0, ("p",), False)


def test_what_stands_without_a_flag_may_stand_in_the_file(tmp_path):
    toml = tmp_path / "knobs.toml"
    toml.write_text('[knobs]\nsrc = ["a", "b"]\n')
    assert parse([], toml).src == (Path("a"), Path("b"))
    assert parse(["c"], toml).src == (Path("c"),)
    with pytest.raises(UsageError, match=r"SRC is required \(where from\)"):
        parse([])
    parser = config.Parser(prog="pyrad info")
    config.add_flags(parser, cli.StoreOptions)
    (tmp_path / "info.toml").write_text('[info]\nstore = "s.zarr"\n')
    flags = vars(parser.parse_args([]))
    assert config.resolve(cli.StoreOptions, flags, tmp_path / "info.toml", "info").store == Path("s.zarr")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[knobs]\nsise = 8\n", "did you mean size"),
        ('[knobs]\nnames = ["p", 7]\n', r"names, item 2, = 7; a value of type str is due"),
        ("[knobs]\nsrc = [true]\n", "src, item 1, = True; a value of type Path is due"),
        ('[knobs]\nsrc = "a"\n', "a list is due"),
        ('[knobs]\nsize = "big"\n', "type int is due"),
        ('[knobs]\ncodec = "c"\n', "allowed: a, b"),
        ("[knobs\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, text, message):
    (tmp_path / "knobs.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        parse(["x"], tmp_path / "knobs.toml")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_teaches_every_command(command, capsys):
    assert cli.main([command, "--help"]) == 0
    printed = capsys.readouterr().out
    assert cli.COMMANDS[command].example.split(" --")[0] in " ".join(printed.split())


def test_help_offers_only_what_there_is(capsys):
    assert cli.main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if name not in printed] == []
    assert cli.main(["tune"]) == 2
    assert "there is no command 'tune'" in capsys.readouterr().err


def fails(words, exit_code, *fragments, capsys):
    assert cli.main([str(word) for word in words]) == exit_code
    err = capsys.readouterr().err
    complaint = [line for line in err.splitlines() if line.startswith("pyrad")]
    assert len(complaint) == 1, err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in complaint[0]


def test_bad_input_is_one_line_and_the_right_exit_code(pictures, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("dear diary")
    table = tmp_path / "t.csv"
    table.write_text("path,label\nno/such.png,cat\n")
    ingest = ["ingest", pictures, "--store", store]
    fails(["ingest", tmp_path / "nope", "--store", store], 2, "does not exist", capsys=capsys)
    fails(["ingest", tmp_path / "empty", "--store", store], 2, capsys=capsys)
    fails(["ingest", tmp_path / "notes.txt", "--store", store], 2, capsys=capsys)
    fails([*ingest, "--table", table], 2, capsys=capsys)
    fails([*ingest, "--table", table, "--columns", "label=grade"], 2, "grade", "path, label", capsys=capsys)
    fails([*ingest, "--layuot", "dicom"], 2, "--layuot", capsys=capsys)
    fails([*ingest, "--split", "100"], 2, "100", capsys=capsys)
    for command in ("info", "verify"):
        fails([command, tmp_path], 2, "no pyrad store", capsys=capsys)
        fails([command, tmp_path / "nope.zarr"], 2, capsys=capsys)
    fails(["train", "--store", tmp_path, "--out", tmp_path / "run"], 2, "no pyrad store", capsys=capsys)
    fails(["evaluate", "--run", tmp_path / "nope"], 2, capsys=capsys)
    fails(["report", tmp_path / "nope"], 2, capsys=capsys)
    assert not store.exists()


def test_another_secret_on_append_is_refused(pictures, tmp_path, capsys, monkeypatch):
    store = tmp_path / "s.zarr"
    assert cli.main(["ingest", str(pictures), "--store", str(store), "--workers", "1"]) == 0
    before = (store / "zarr.json").read_bytes()
    monkeypatch.setenv("PYRAD_SECRET", "another")
    capsys.readouterr()
    fails(["ingest", pictures, "--store", store], 6, "secret", capsys=capsys)
    assert (store / "zarr.json").read_bytes() == before


def test_a_flipped_bit_is_exit_code_5_with_array_and_chunk_named(pictures, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    assert cli.main(["ingest", str(pictures), "--store", str(store), "--workers", "1"]) == 0
    (shard,) = (path for path in store.rglob("c/*/*/*") if path.is_file())
    whole = bytearray(shard.read_bytes())
    whole[100] ^= 1
    shard.write_bytes(whole)
    capsys.readouterr()
    assert cli.main(["verify", str(store)]) == 5
    err = capsys.readouterr().err
    assert "images/12x10_u8" in err
    assert "chunk" in err


def test_json_is_for_machines(pictures, tmp_path, capsys):
    store = tmp_path / "s.zarr"
    assert cli.main(["ingest", str(pictures), "--store", str(store), "--workers", "1", "--json"]) == 0
    captured = capsys.readouterr()
    (result,) = (json.loads(line) for line in captured.out.splitlines())
    assert result["event"] == "result"
    events = [json.loads(line) for line in captured.err.splitlines()]
    assert {"progress"} <= {event["event"] for event in events}
    assert all(
        event["per_second"] >= 0 and event["eta_s"] >= 0 for event in events if event["event"] == "progress"
    )


def test_our_own_bug_shows_no_traceback_and_no_data(capsys, monkeypatch):
    def broken(*_):
        raise ValueError("Doe^John 1970")

    monkeypatch.setattr(cli, "_info", broken)
    monkeypatch.delenv("PYRAD_TRACEBACK", raising=False)
    assert cli.main(["info", "x"]) == 1
    err = capsys.readouterr().err
    assert "internal error ValueError at test_cli.py" in err
    assert "Doe" not in err


@pytest.mark.parametrize("error", [OSError("Doe^John 1970"), Image.UnidentifiedImageError("Doe^John 1970")])
def test_an_error_that_no_system_call_made_is_not_quoted(error, capsys, monkeypatch):
    def broken(*_):
        raise error

    monkeypatch.setattr(cli, "_info", broken)
    monkeypatch.delenv("PYRAD_TRACEBACK", raising=False)
    assert cli.main(["info", "x"]) == 1
    err = capsys.readouterr().err
    assert f"internal error {type(error).__name__} at test_cli.py" in err
    assert "Doe" not in err
    assert "None" not in err


def test_what_the_system_refuses_has_a_place_and_no_path(capsys, monkeypatch):
    def broken(*_):
        durable.sync_folder(Path("/nonexistent/Doe^John"))

    monkeypatch.setattr(cli, "_info", broken)
    monkeypatch.delenv("PYRAD_TRACEBACK", raising=False)
    assert cli.main(["info", "x"]) == 1
    err = capsys.readouterr().err
    assert "the system refused: No such file or directory (errno 2) at durable.py:" in err
    assert "PYRAD_TRACEBACK=1" in err
    assert "Doe" not in err
    monkeypatch.setenv("PYRAD_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError):
        cli.main(["info", "x"])


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_only_what_resumes_says_so(command, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main([command]) == 130
    assert ("the same command resumes" in capsys.readouterr().err) == (command == "ingest")


def test_the_help_of_ingest_is_grouped(capsys):
    assert cli.main(["ingest", "--help"]) == 0
    printed = capsys.readouterr().out
    titles = ("which images:", "labels and splits:", "the store:", "safety:", "running:")
    places = [printed.index(title) for title in titles]
    assert places == sorted(places)
    assert places[0] < printed.rindex("--include") < places[1] < printed.rindex("--group-by") < places[2]


def test_all_doors_lead_to_the_same_room():
    bin_folder = Path(sys.executable).parent
    for door in (
        [bin_folder / "pyrad", "ingest"],
        [sys.executable, "-m", "pyrad", "ingest"],
        [sys.executable, "-m", "pyrad.ingest"],
    ):
        ran = subprocess.run(
            [*door, "/nope", "--store", "x.zarr"], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 2
        assert "does not exist" in ran.stderr


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_has_its_exit_code(tmp_path, number, exit_code):
    command = [Path(sys.executable).parent / "pyrad", "phantom", tmp_path / "big", "--patients", "2000"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    deadline_s = time.monotonic() + 60
    while not (tmp_path / "big").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    time.sleep(0.3)
    child.send_signal(number)
    err = child.communicate(timeout=60)[1].decode()
    assert child.returncode == exit_code, err
    assert "Traceback" not in err


def test_a_table_without_a_header_is_not_quoted(pictures, tmp_path, capsys):
    (tmp_path / "t.csv").write_text("cat/0.png,SMITH JOHN,MRN-4711\ncat/1.png,DOE JANE,MRN-4712\n")
    ingest = ["ingest", pictures, "--store", tmp_path / "s.zarr", "--table", tmp_path / "t.csv"]
    fails(ingest, 2, "row 1 must be a header", capsys=capsys)
    assert cli.main([str(word) for word in ingest]) == 2
    assert "SMITH" not in capsys.readouterr().err
