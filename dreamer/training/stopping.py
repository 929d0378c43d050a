"""How a run ends before its time: signals, and an environment that never answers."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, runtime_checkable

import lightning as L
from lightning.pytorch.callbacks import Callback

from dreamer import ranks
from dreamer.data.dataset import ReplayDataset
from dreamer.data.stepper import Waiting
from dreamer.errors import SIGNALS
from dreamer.training.saving.checkpoint import save_checkpoint

PATIENCE = 5.0  # seconds that a step under way may take once a signal has come
LOOK = 0.25  # seconds between two looks at an environment
COMPILERS = ("torch._dynamo.convert_frame", "torch._inductor.compile_fx")  # modules that only a compilation enters
ASK = 1.0  # seconds between two questions whether somebody outside wants the run to stop


@runtime_checkable
class Outside(Protocol):
    """What a run is part of, a sweep for one, which may end it before its time (sweep/job.py: Job)."""

    def is_stopped(self) -> bool:
        """Whether the run shall save and stop, as after a signal. Asked every ASK seconds, beside the run."""
        ...

    def hopeless(self, env_step: int) -> str | None:
        """Why the run should end here for good, or None. Asked after each update."""
        ...

    def stopped(self, env_step: int) -> None:
        """Told when the run has stopped before its end, and is saved."""
        ...


class StoppedCompiling(BaseException):
    """A signal came while torch compiles, which may take minutes: left at once. The update under way is void."""


class GracefulStop(Callback):
    """A signal of SIGNALS ends the run after the update in progress, with a checkpoint; a second one ends it at once.

    Beside the run a thread looks at environments of its own process, which nothing can interrupt: it says when one has
    not answered for env.step_timeout, and after a signal it saves the run and ends the process in its stead. It hears
    of signals by itself, since Python's handlers do not run while the main thread is inside such an environment.
    The thread also asks `outside`, whose wish to stop counts as a SIGINT.
    """

    def __init__(
        self, dataset: ReplayDataset, run_dir: Path, step_timeout: float, outside: Outside | None = None
    ) -> None:
        self.dataset, self.run_dir, self.step_timeout, self.outside = dataset, run_dir, step_timeout, outside
        self.received: int | None = None
        self.pruned: str | None = None  # why `outside` calls the run hopeless
        self.saved_at = ""  # of the last checkpoint, for whom a second signal loses what came after it
        self.evaluating = Waiting()  # for the environment of evaluations
        self.previous: dict[int, Any] = {}
        self.queue_again: Callable[[], Any] | None = None  # what submitit would have done at its SIGUSR2
        self.ended = threading.Event()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                self.previous[number] = signal.signal(number, self.handle)
        requeue = getattr(signal, "SIGUSR2", None)
        if requeue in self.previous and callable(handler := self.previous[requeue]):
            self.queue_again = partial(handler, requeue, None)
        self.ended.clear()
        self.heard, ear = socket.socketpair()
        ear.setblocking(False)
        self.heard.settimeout(LOOK)
        self.ear, self.previous_ear = ear, signal.set_wakeup_fd(ear.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self.watch, args=(trainer,), name="watch", daemon=True).start()

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.end_at_once(number)
        self.begin_to_stop(number)
        if is_compiling(frame):
            raise StoppedCompiling

    def begin_to_stop(self, number: int) -> None:
        name = signal.Signals(number).name
        self.stop_after_update(number, f"{name}: saving and stopping after this update (again to stop at once).")

    def stop_after_update(self, number: int, words: str) -> None:
        self.received = number
        _write(f"\n{words}\n")
        self.dataset.stop()

    def end_at_once(self, number: int) -> None:
        since = self.saved_at or "no checkpoint was written yet: all of this run"
        _write_everywhere(f"\n{signal.Signals(number).name}: stopping at once. Lost is what came since: {since}.\n")
        os._exit(128 + number)

    def watch(self, trainer: L.Trainer) -> None:
        """What the thread does, until the run has ended."""
        told: Waiting | None = None
        asked: float | None = None
        next_question = 0.0
        while not self.ended.is_set():
            number = self.listen()
            if self.outside is not None and self.received is None and time.monotonic() > next_question:
                next_question = time.monotonic() + ASK
                if self.outside.is_stopped():
                    asked = time.monotonic()
                    self.stop_after_update(signal.SIGINT, "The sweep stops: saving and stopping after this update.")
            waiting = self.evaluating if self.evaluating.seconds else self.dataset.collector.waiting
            seconds = waiting.seconds if waiting else 0.0
            if number is not None and asked is None:
                asked = time.monotonic()
                time.sleep(LOOK)  # the handler comes first, if it can
                if self.received is None and seconds > LOOK:
                    self.begin_to_stop(number)
            if seconds < LOOK:
                told = None
            elif seconds > self.step_timeout and told is not waiting:
                told = waiting
                what = "of the evaluation" if waiting is self.evaluating else "of the run"
                _write_everywhere(
                    f"An environment {what} has not answered for {seconds:.0f} seconds (env.step_timeout). It lives in "
                    "the process of the run, which can only wait: Ctrl-C or SIGTERM saves and stops, "
                    "env.workers=process would have it started again.\n"
                )
            patience_is_over = asked is not None and time.monotonic() - asked > PATIENCE
            if patience_is_over and waiting is not None and seconds > PATIENCE and waiting.take_over():
                self.stop_without(waiting, trainer)

    def listen(self) -> int | None:
        """The number of a signal that has come by now."""
        try:
            heard = self.heard.recv(64)
        except (TimeoutError, OSError):
            return None
        return next((number for number in heard if number in self.previous), None)

    def stop_without(self, waiting: Waiting, trainer: L.Trainer) -> None:
        """Save the run as of before the step that does not end, and end the process."""
        assert self.received is not None
        if not ranks.is_alone():  # a checkpoint needs them all, and this one cannot come
            self.end_at_once(self.received)
        if waiting is not self.evaluating:
            self.dataset.collector.abandon()
        save_checkpoint(trainer, self.run_dir, self.dataset)
        step = self.dataset.collector.env_steps
        _write(
            f"Stopped at environment step {step:,}, without the environment, which did not answer. To go on: the same "
            f"command with run_dir={self.run_dir}\n"
        )
        with suppress(SystemExit):
            self.hand_on()
        os._exit(128 + self.received)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.outside is not None and not self.dataset.is_stopped:
            self.pruned = self.outside.hopeless(self.dataset.collector.env_steps)
            if self.pruned is not None:
                self.dataset.stop()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True  # the dataset has ended, and with it the run: without this, Lightning begins anew

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restore()

    def hand_on(self) -> None:
        """Once the run is saved, let submitit do what the signal asks it for, which it leaves by SystemExit."""
        if self.received == getattr(signal, "SIGUSR2", None) and self.queue_again is not None:
            try:
                self.queue_again()
            except Exception as error:  # it was queued too often, for one
                _write(f"This job is not queued again: {error}\n")

    def restore(self) -> None:
        """Give signals back to whom they belonged, and end the thread; safe to call again."""
        if self.ended.is_set() or not self.previous:
            return
        self.ended.set()
        signal.set_wakeup_fd(self.previous_ear)
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}
        self.ear.close()


def is_compiling(frame: FrameType | None) -> bool:
    """Whether a call of torch's compiler stands on this stack."""
    while frame is not None:
        if frame.f_globals.get("__name__") in COMPILERS:
            return True
        frame = frame.f_back
    return False


def _write(text: str) -> None:
    """To standard output, also where a signal came in the middle of a print, or from beside the main thread."""
    os.write(1, text.encode())


def _write_everywhere(text: str) -> None:
    """The same, of any rank: what others than rank 0 say to standard output is not seen."""
    os.write(1 if ranks.rank() == 0 else 2, text.encode())
