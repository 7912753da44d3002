"""A checkpoint is whole or it is not there: damage is found, a death at any moment leaves a loadable one."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.errors import IntegrityError, RefusedError, UsageError
from pyrad.train import checkpoint
from pyrad.train.checkpoint import MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, Result, State

FILES = (MODEL_FILE, OPTIMIZER_FILE, STATE_FILE)


def tensors(step):
    return {
        "conv.weight": torch.full((2, 3, 3, 3), step / 3).to(memory_format=torch.channels_last),
        "bn.num_batches_tracked": torch.tensor(step),
    }


def save(folder, step, best=None):
    state = State(
        step=step,
        loader={"version": 1, "position": 8 * step},
        validation=Result(step=step, loss=None, accuracy=None),
        best=None if best is None else Result(step=best, loss=0.1 + 0.2, accuracy=0.5),
    )
    moments = {
        "exp_avg/conv.weight": torch.full((2, 3, 3, 3), -step / 7),
        "step/conv.weight": torch.tensor(1.0),
    }
    path = checkpoint.save(
        folder, state, model=tensors(step), optimizer=moments, description={"model": "toy"}
    )
    return path, state


def test_what_is_saved_is_what_is_loaded(tmp_path):
    torch.manual_seed(3)
    path, state = save(tmp_path / "c", 12, best=4)
    drawn = torch.rand(3)
    found = checkpoint.load(path)
    assert path.name == "step-00000012"
    assert found.state == state
    assert found.state.best.loss == 0.1 + 0.2  # to the last bit
    assert all(torch.equal(found.model[name], value) for name, value in tensors(12).items())
    assert torch.equal(found.optimizer["exp_avg/conv.weight"], torch.full((2, 3, 3, 3), -12 / 7))
    assert set(found.optimizer) == {"exp_avg/conv.weight", "step/conv.weight"}
    torch.set_rng_state(found.rng)
    assert torch.equal(torch.rand(3), drawn)


def test_equal_states_are_equal_bytes_and_hold_no_clock_host_or_path(tmp_path):
    contents = []
    for folder in ("a", "b"):
        torch.manual_seed(3)
        path, _ = save(tmp_path / folder, 12, best=4)
        assert sorted(entry.name for entry in path.iterdir()) == sorted(FILES)
        contents.append([(path / name).read_bytes() for name in FILES])
    assert contents[0] == contents[1]
    assert all(str(tmp_path).encode() not in data for data in contents[0])
    assert set(json.loads(contents[0][2])) == {
        "best", "digest", "format", "loader", "sha256", "step", "validation",
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_and_any_cut_is_found(tmp_path_factory, data):
    path, _ = save(tmp_path_factory.mktemp("flip") / "c", 3)
    name = data.draw(st.sampled_from(FILES))
    whole = (path / name).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:at]
    else:
        flipped = whole[at] ^ (1 << data.draw(st.integers(0, 7)))
        damaged = whole[:at] + bytes([flipped]) + whole[at + 1 :]
    (path / name).write_bytes(damaged)
    if name == STATE_FILE and _same_json(whole, damaged):
        return  # white space outside of strings
    with pytest.raises(IntegrityError, match=rf"checkpoint step-00000003 is damaged: {name}"):
        checkpoint.load(path)


def _same_json(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(tmp_path, name):
    path, _ = save(tmp_path / "c", 3)
    (path / name).unlink()
    with pytest.raises(IntegrityError, match=rf"{name}: No such file"):
        checkpoint.load(path)


def test_a_checkpoint_under_another_name_or_of_a_newer_format_is_not_taken(tmp_path):
    path, state = save(tmp_path / "c", 3)
    moved = path.rename(path.parent / "step-00000004")
    with pytest.raises(IntegrityError, match="it is of step 3"):
        checkpoint.load(moved)
    record = json.loads((moved / STATE_FILE).read_text())
    del record["digest"]
    record["format"] = 2
    record["digest"] = checkpoint._digest(record)
    (moved / STATE_FILE).write_text(json.dumps(record))
    with pytest.raises(UsageError, match="has format 2; this pyrad reads 1"):
        checkpoint.load(moved)
    assert state.step == 3


def test_a_pickle_is_never_opened_even_with_the_right_hash(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    path, state = save(tmp_path / "c", 3)
    contents = {name: (path / name).read_bytes() for name in FILES}
    contents[MODEL_FILE] = pickle.dumps(Trap())
    hashes = {
        name: checkpoint.hashlib.sha256(contents[name]).hexdigest() for name in (MODEL_FILE, OPTIMIZER_FILE)
    }
    (path / MODEL_FILE).write_bytes(contents[MODEL_FILE])
    (path / STATE_FILE).write_bytes(checkpoint._encode_state(state, hashes))
    with pytest.raises(RefusedError, match="is a pickle") as refused:
        checkpoint.load_newest(tmp_path / "c", pytest.fail)
    assert refused.value.exit_code == 6


def test_the_newest_whole_one_is_loaded_and_each_damaged_one_is_named(tmp_path):
    folder = tmp_path / "c"
    said = []
    assert checkpoint.load_newest(folder, said.append) is None
    for step in (1, 2, 3):
        save(folder, step)
    assert checkpoint.load_newest(folder, said.append).state.step == 3
    assert said == []
    (folder / "step-00000003" / MODEL_FILE).write_bytes(b"")
    (folder / "step-00000002" / STATE_FILE).unlink()
    assert checkpoint.load_newest(folder, said.append).state.step == 1
    assert [text.partition(" is damaged")[0] for text in said] == [
        "checkpoint step-00000003",
        "checkpoint step-00000002",
    ]
    assert said[1].endswith("falling back to step-00000001")
    (folder / "step-00000001" / OPTIMIZER_FILE).write_bytes(b"")
    with pytest.raises(IntegrityError, match="none of the 3 checkpoints"):
        checkpoint.load_newest(folder, said.append)


def test_pruning_keeps_the_newest_two_and_the_best_and_no_future(tmp_path):
    for step in (1, 2, 3, 4, 5, 9):
        save(tmp_path / "c", step)
    checkpoint.prune(tmp_path / "c", step=5, best=2)
    assert checkpoint.steps_in(tmp_path / "c") == [2, 4, 5]
    checkpoint.prune(tmp_path / "c", step=5, best=5)
    assert checkpoint.steps_in(tmp_path / "c") == [4, 5]
    checkpoint.prune(tmp_path / "c", step=5, best=None)
    assert checkpoint.steps_in(tmp_path / "c") == [4, 5]


def test_steps_beyond_eight_digits_are_found(tmp_path):
    save(tmp_path / "c", 123_456_789)
    assert checkpoint.load_newest(tmp_path / "c", pytest.fail).state.step == 123_456_789


# Saves steps 1 and 2, then dies before the N-th change to the file system of: saving step 3, pruning step 1,
# and saving step 3 again with other contents; each N in a process of its own. Prints how many N there are.
_SWEEP = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_checkpoint
from pyrad.train import checkpoint

root = Path(sys.argv[1])
left = -1

def count(event, arguments):
    global left
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if left >= 0 and (writes or event in {"os.mkdir", "os.rename", "os.remove", "os.rmdir"}):
        if left == 0:
            os._exit(9)
        left -= 1

sys.addaudithook(count)
for number in range(200):
    folder = root / str(number)
    pid = os.fork()
    if pid == 0:
        for step in (1, 2):
            test_checkpoint.save(folder, step, best=1)
        left = number
        test_checkpoint.save(folder, 3, best=2)
        checkpoint.prune(folder, step=3, best=2)
        test_checkpoint.save(folder, 3, best=3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        print(number)
        break
    assert code == 9, code
"""


def test_a_death_at_any_moment_leaves_a_loadable_checkpoint(tmp_path):
    swept = subprocess.run(
        [sys.executable, "-c", _SWEEP, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert swept.returncode == 0, swept.stderr
    moments = int(swept.stdout)
    assert moments > 15  # 2 folders, 6 files, 3 renames, and what is removed
    seen = set()
    for moment in range(moments + 1):
        folder = tmp_path / str(moment)
        checkpoint.tidy(folder)
        found = checkpoint.load_newest(folder, pytest.fail)
        seen.add((found.state.step, found.state.best.step))
        assert all(torch.equal(found.model[name], value) for name, value in tensors(found.state.step).items())
        assert [entry.name for entry in folder.iterdir() if entry.name.startswith(".")] == []
        assert checkpoint.load(folder / "step-00000002").state.step == 2
    assert seen == {(2, 1), (3, 2), (3, 3)}
