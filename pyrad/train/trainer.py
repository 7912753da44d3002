"""One step after another: a batch -> the weights after it, a line of the log, now and then a checkpoint.

# Note [resume]
Everything a step depends on is the options, the store and the state after the step before: weights, moments,
torch's generator and the loader's position. The learning rate is a pure function of the step, the order and
augmentation of the images one of the position. So k steps, a kill and k more equal 2k steps, bit for bit on
the same machine with the same number of threads; ``--deterministic`` refuses operations that would break it.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from typing import Any

import torch

from pyrad.errors import IntegrityError, PyradError, StoppedError, UsageError
from pyrad.loader.loader import Loader
from pyrad.models import create_model
from pyrad.models.weights import describe_misfit
from pyrad.progress import Reporter
from pyrad.records import Batch
from pyrad.train import checkpoint
from pyrad.train.checkpoint import Checkpoint, Result, State
from pyrad.train.optim import learning_rate, make_adamw, optimizer_tensors, restore_optimizer
from pyrad.train.options import TrainOptions
from pyrad.train.run import MetricsLog, RunFolder, disk_errors
from pyrad.train.signals import StopWish
from pyrad.train.validate import class_loss, validate

_KEYS_NAMED = 4
_DESCRIBES_MODEL = (
    "format",
    "model",
    "num_classes",
    "in_chans",
    "classes",
    "multi_label",
    "preprocessing",
    "store_fingerprint",
)


class Trainer:
    """The state of a run in memory, and the way it moves on."""

    def __init__(
        self,
        options: TrainOptions,
        reporter: Reporter,
        stop: StopWish,
        folder: RunFolder,
        loader: Loader,
        val_loader: Loader | None,
        record: dict[str, Any],
    ) -> None:
        self.options, self.reporter, self.stop, self.folder = options, reporter, stop, folder
        self.loader, self.val_loader, self.record = loader, val_loader, record
        self.model = create_model(
            options.model, num_classes=len(loader.classes), in_chans=options.channels
        ).train()
        self.optimizer = make_adamw(self.model, options.weight_decay)
        self.steps_an_epoch = len(loader)
        self.total = options.epochs * self.steps_an_epoch
        self.step = 0  # finished steps
        self.validation: Result | None = None
        self.best: Result | None = None
        self.saved: tuple[int, int] | None = None  # step and validated step of the newest checkpoint
        self.images_per_s: float | None = None  # of this process, validation included; None: no step was left

    @property
    def validated(self) -> int:
        """After which step the last validation was."""
        return self.validation.step if self.validation else 0

    def begin_or_resume(self, begun: dict[str, Any] | None) -> None:
        """Take the state from the newest whole checkpoint, if there is one, and write run.json."""
        with disk_errors(self.folder.path):
            checkpoint.tidy(self.folder.checkpoints)
        found = checkpoint.load_newest(self.folder.checkpoints, self.reporter.say)
        if found is not None:
            self._restore(found)
        if begun is not None:
            self._say_resumed(begun)
        self.folder.write(self.record)
        with disk_errors(self.folder.path):
            self._prune()  # of what is newer and damaged, so that it does not count as one of the newest
            # The final weights of a shorter run are not those of this one.
            self.folder.model.unlink(missing_ok=True)
            self.log = MetricsLog(self.folder.metrics, step=self.step, validated=self.validated)

    def run(self) -> dict[str, Any]:
        """Make the steps that are left, and write the final weights; returns run.json's ``result``.

        Raises:
            StoppedError: a signal came; a checkpoint of the last finished step is saved.
            PyradError: loss or gradient is no longer finite, or the disk is full.

        """
        batch_size = self.options.batch_size
        left = (self.total - self.step) * batch_size
        with (
            closing(self.log),
            closing(self._endless()) as batches,
            self.reporter.stage("train", total=left, unit="images") as stage,
        ):
            while True:
                if self.val_loader and self._validation_is_due() and not self._validate(self.val_loader):
                    self._leave()
                if self._checkpoint_is_due():
                    self._save()
                if self.step == self.total:
                    break
                if self.stop:
                    self._leave()
                loss = self._make_step(next(batches))
                stage.advance(batch_size, note=f"step {self.step:,}/{self.total:,} loss {loss:.4f}")
        result = {
            "step": self.step,
            "validation": asdict(self.validation) if self.validation else None,
            "best": asdict(self.best) if self.best else None,
        }
        self.folder.write_model(self.model.state_dict(), {**self._description(), "step": self.step})
        self.folder.write({**self.record, "result": result})
        self.images_per_s = stage.rate if stage.done else None
        return result

    def _endless(self) -> Generator[Batch, None, None]:
        while True:
            yield from self.loader

    def _make_step(self, batch: Batch) -> float:
        """Learn from one batch; returns its loss."""
        rate = learning_rate(self.step, total=self.total, warmup=self.options.warmup, peak=self.options.lr)
        logits = self.model(batch.images)
        loss = class_loss(
            logits,
            batch.labels,
            multi_label=self.loader.multi_label,
            smoothing=self.options.label_smoothing,
        )
        self._refuse_non_finite("loss", loss.item(), batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.get_total_norm(
            parameter.grad for parameter in self.model.parameters() if parameter.grad is not None
        ).item()
        self._refuse_non_finite("gradient", norm, batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        line = {"kind": "train", "step": self.step, "epoch": self._epoch(), "loss": loss.item()}
        if not self.loader.multi_label:
            line["accuracy"] = (logits.detach().argmax(dim=1) == batch.labels).double().mean().item()
        self._write_line({**line, "lr": rate, "grad_norm": norm})
        return loss.item()

    def _refuse_non_finite(self, what: str, value: float, batch: Batch) -> None:
        """Stop before the weights are touched: what was saved stays good."""
        if math.isfinite(value):
            return
        saved = f"checkpoint {checkpoint.name_of(self.saved[0])} is" if self.saved else "no checkpoint was"
        more = len(batch.keys) - _KEYS_NAMED
        raise PyradError(
            f"the {what} of step {self.step + 1} is {value}; its {len(batch.keys)} samples are "
            f"{', '.join(batch.keys[:_KEYS_NAMED])}{f' and {more} more' if more > 0 else ''}. The weights "
            f"were not changed by it; {saved} the last one saved. Begin again with a lower --lr (now "
            f"{self.options.lr}) or a longer --warmup, and another --out"
        )

    def _epoch(self) -> int:
        """Return which epoch, from 1, the last finished step belongs to."""
        return math.ceil(self.step / self.steps_an_epoch)

    def _validation_is_due(self) -> bool:
        at_end = self.step > 0 and self.step % self.steps_an_epoch == 0
        return at_end and self.validated < self.step

    def _validate(self, loader: Loader) -> bool:
        """Validate, and note whether it is the best so far; False where a signal came half-way."""
        with self.reporter.stage("validate", total=len(loader.samples), unit="images") as stage:
            found = validate(
                self.model,
                loader,
                multi_label=self.loader.multi_label,
                stage=stage,
                stop=lambda: bool(self.stop),
            )
            if found is None:
                return False
            top1 = "" if found.accuracy is None else f" top-1 {found.accuracy:.4f}"
            stage.advance(0, note=f"epoch {self._epoch()}/{self.options.epochs} loss {found.loss:.4f}{top1}")
        self.validation = Result(
            step=self.step, loss=checkpoint.finite_or_none(found.loss), accuracy=found.accuracy
        )
        if self.validation.loss is not None and (
            self.best is None or self.best.loss is None or self.validation.loss < self.best.loss
        ):
            self.best = self.validation
        line = {"kind": "val", "step": self.step, "epoch": self._epoch(), "loss": self.validation.loss}
        if found.accuracy is not None:
            line["accuracy"] = found.accuracy
        self._write_line({**line, "samples": found.samples})
        return True

    def _checkpoint_is_due(self) -> bool:
        if self.step == 0 or self.saved == (self.step, self.validated):
            return False
        is_best = self.best is not None and self.best.step == self.step
        return is_best or self.step == self.total or self.step % self.options.checkpoint_every == 0

    def _save(self) -> None:
        state = State(
            step=self.step, loader=self.loader.state_dict(), validation=self.validation, best=self.best
        )
        with disk_errors(self.folder.path):
            self.log.sync()
            checkpoint.save(
                self.folder.checkpoints,
                state,
                model=self.model.state_dict(),
                optimizer=optimizer_tensors(self.optimizer, self.model),
                description=self._description(),
            )
            self._prune()
        self.saved = (self.step, self.validated)

    def _prune(self) -> None:
        best = self.best.step if self.best else None
        checkpoint.prune(self.folder.checkpoints, step=self.step, best=best)

    def _leave(self) -> None:
        """Save what is not saved yet, and end with the signal's exit code."""
        if self.saved != (self.step, self.validated):
            self._save()
        raise StoppedError(
            f"stopped by {signal.Signals(self.stop.signum).name} after step {self.step:,} of {self.total:,}; "
            "a checkpoint is saved, and the same command with --resume goes on from it",
            signum=self.stop.signum,
        )

    def _restore(self, found: Checkpoint) -> None:
        if found.state.step > self.total:
            raise UsageError(
                f"--epochs {self.options.epochs} is {self.total:,} steps, and the run has made "
                f"{found.state.step:,}: give at least {math.ceil(found.state.step / self.steps_an_epoch)}"
            )
        if misfit := describe_misfit(self.model, found.model):
            raise IntegrityError(f"the checkpoint is not of this run's {self.options.model}: {misfit}")
        self.model.load_state_dict(found.model)
        restore_optimizer(self.optimizer, self.model, found.optimizer)
        torch.set_rng_state(found.rng)
        self.loader.load_state_dict(found.state.loader)
        self.step, self.validation, self.best = found.state.step, found.state.validation, found.state.best
        self.saved = (self.step, self.validated)

    def _say_resumed(self, begun: dict[str, Any]) -> None:
        self.reporter.say(f"resuming after step {self.step:,} of {self.total:,}")
        then, now = begun.get("versions", {}), self.record["versions"]
        if changed := [name for name in now if then.get(name) != now[name]]:
            self.reporter.say(
                "the run was begun with other "
                + ", ".join(f"{name} ({then.get(name)}, now {now[name]})" for name in changed)
                + ": the last bits of its numbers may differ from those of an uninterrupted run"
            )

    def _description(self) -> dict[str, Any]:
        return {name: self.record[name] for name in _DESCRIBES_MODEL}

    def _write_line(self, line: dict[str, Any]) -> None:
        with disk_errors(self.folder.path):
            self.log.append(line)
