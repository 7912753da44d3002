"""A store under Lightning's Trainer: the loader's batches, and a run that goes on in mid-epoch."""

import json
import threading

import pytest
import torch
from toy_loading import keys, open_small, optional, same, small, take

from pyrad.loader.augment import Augment

pl = optional("pytorch_lightning")
from pyrad.loader.lightning import StoreDataModule  # noqa: E402  it needs Lightning

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, loggers and checkpoints
OPTIONS = {"batch_size": 8, "size": 12, "threads": 2}


class Watcher(pl.LightningModule):
    """A model of one number that keeps every batch it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated = [], []

    def training_step(self, batch, _):
        self.trained.append(batch)
        return self.weight * batch.images.mean()

    def validation_step(self, batch, _):
        self.validated.append(batch)

    def test_step(self, batch):
        raise AssertionError(batch.keys)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_small(tmp_path_factory.mktemp("stores") / "s.zarr") as opened:
        yield opened


def trainer(folder, **options):
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 3,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "default_root_dir": folder,
            **options,
        }
    )


def module_of(store):
    return StoreDataModule(store, augment=Augment(), **OPTIONS)


def test_a_trainer_sees_the_loaders_batches(store, tmp_path):
    model = Watcher()
    trainer(tmp_path).fit(model, datamodule=module_of(store))
    same(model.trained, take(small(store, augment=Augment()), 12))
    once = list(small(store, split="val"))
    same(model.validated, once * 4)  # once to see whether it works
    assert isinstance(model.trained[0].images, torch.Tensor)


class Failure(pl.Callback):
    """Saves when ``hook`` is called after ``steps`` steps, and then ends the run."""

    def __init__(self, path, hook, steps):
        self.path, self.steps = path, steps
        setattr(self, hook, self.fail)

    def fail(self, trainer, *_):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            raise ConnectionAbortedError


@pytest.mark.parametrize(
    ("hook", "steps"),
    [
        ("on_train_batch_end", 3),
        ("on_train_batch_end", 4),
        ("on_train_batch_end", 6),
        ("on_validation_end", 4),
        ("on_train_epoch_end", 8),
    ],
)
def test_a_run_that_failed_goes_on_with_the_next_batch(store, tmp_path, hook, steps):
    """Epochs of 4 steps: in the middle of one, at its ends, and after the last step of one."""
    first, second = Watcher(), Watcher()
    failure = Failure(tmp_path / "saved.ckpt", hook, steps)
    failing = trainer(tmp_path, callbacks=[failure])
    with pytest.raises(ConnectionAbortedError):
        failing.fit(first, datamodule=module_of(store))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pyrad-loader")]
    trainer(tmp_path).fit(second, datamodule=module_of(store), ckpt_path=failure.path)
    same(first.trained + second.trained, take(small(store, augment=Augment()), 12))


def test_a_run_that_was_finished_is_lengthened(store, tmp_path):
    first, second = Watcher(), Watcher()
    short = trainer(tmp_path, max_epochs=1)
    short.fit(first, datamodule=module_of(store))
    short.save_checkpoint(tmp_path / "saved.ckpt")
    trainer(tmp_path).fit(second, datamodule=module_of(store), ckpt_path=tmp_path / "saved.ckpt")
    same(first.trained + second.trained, take(small(store, augment=Augment()), 12))


def test_a_trainer_that_asks_for_loaders_again_goes_on(store, tmp_path):
    model = Watcher()
    trainer(tmp_path, reload_dataloaders_every_n_epochs=1).fit(model, datamodule=module_of(store))
    same(model.trained, take(small(store, augment=Augment()), 12))


def test_a_split_without_samples_has_no_loader(store, tmp_path):
    module = StoreDataModule(store.path, **OPTIONS)
    assert module.test_dataloader() == []
    assert keys(module.val_dataloader()) == keys(small(store, split="val"))
    trainer(tmp_path).test(Watcher(), datamodule=module)
    module.store.close()


def test_each_rank_takes_its_slice(store):
    class TwoRanks:
        global_rank, world_size = 1, 2

    module = StoreDataModule(store, **OPTIONS)
    module.trainer = TwoRanks()
    (batch,) = take(module.train_dataloader(), 1)
    assert batch.keys == take(small(store), 1)[0].keys[4:]


class Writer(Watcher):
    """Leaves the keys that each rank was shown."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_end(self):
        names = [batch.keys for batch in self.trained]
        (self.folder / f"{self.trainer.global_rank}.json").write_text(json.dumps(names))


@pytest.mark.soak
def test_two_processes_share_every_batch(store, tmp_path):
    two = trainer(tmp_path, devices=2, strategy="ddp_spawn")
    two.fit(Writer(tmp_path), datamodule=module_of(store))
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    whole = take(small(store, augment=Augment()), 12)
    assert [first + second for first, second in zip(*seen, strict=True)] == [list(b.keys) for b in whole]
