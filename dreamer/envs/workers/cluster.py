"""Environments in actors on a Ray cluster, which step at the same time. One that dies is replaced, on any node."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any

from dreamer.config.checks import check_ray_address
from dreamer.envs.drawing import backend
from dreamer.envs.suites.imports import install_command
from dreamer.envs.workers.vector import (
    SECONDS_TO_BUILD,
    Make,
    WorkerVector,
    environment,
    prepared_for_children,
)

SECONDS_TO_CONNECT = 5.0
STORE_BYTES = 256 * 2**20  # of a local Ray for what does not fit into a message: a large picture of each environment

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leaves CUDA_VISIBLE_DEVICES alone, and does not announce that
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: on every system, listen on 127.0.0.1 alone
    "RAY_worker_register_timeout_seconds": "600",  # or on a busy machine it starts the same processes again and again
    "RAY_worker_niceness": "0",  # as processes have it; 15 by default, which starves them where cores are busy
    "RAY_gcs_server_request_timeout_seconds": "30",  # for so long its helpers outlive a run that was killed
    "RAY_memory_monitor_refresh_ms": "0",  # nothing is killed since the run itself fills the memory
}


def check_ray() -> None:
    """ValueError, with the command that installs it, where Ray is missing."""
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"env.workers=ray needs the package ray; {install_command('ray')}")


class RayVector(WorkerVector):
    """An actor for each of `makers`, on the cluster of `address` or RAY_ADDRESS, else on a Ray that ends with this.

    Each asks its node for `cpus` cores. An environment that does not answer within `timeout` seconds is killed.
    Raises ValueError where there is no such cluster.
    """

    def __init__(
        self, makers: Sequence[Make], timeout: float = math.inf, address: str | None = None, cpus: float = 1.0
    ) -> None:
        check_ray()
        cluster = Cluster(address, max(1, math.ceil(len(makers) * cpus)))
        from dreamer.envs.workers.actor import Actor

        try:
            cluster.warn_of_shortage(len(makers), cpus)
            # Another machine may draw in another way, so it finds out for itself.
            probe = backend.known_probe() if cluster.is_local else None
            super().__init__(
                makers, lambda make, is_stopping: Actor(make, timeout, is_stopping, probe, cpus), cluster.leave
            )
        except BaseException:
            cluster.leave()
            raise


class Cluster:
    """The connection of this process to Ray.

    A Ray that was started here ends with this process at the latest, listens on the loopback interface alone, has no
    dashboard, takes a secret of its own from whoever connects, and keeps its files where only this user may read them.
    Where the process is connected already, as a job of a Ray launcher is, that connection serves, and outlives this.
    """

    def __init__(self, address: str | None, num_cpus: int) -> None:
        name = "env.ray_address" if address else "RAY_ADDRESS"
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        check_ray_address(name, self.address)
        self._directory: str | None = None
        if self.address == "local" and "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
            os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))  # as long as this process
        with environment(QUIET if self.address == "local" else {}):
            import ray  # reads them, and so do the processes that it starts

            self._is_ours = not ray.is_initialized()
            self.is_local = self._is_ours and self.address == "local"
            terminate = signal.getsignal(signal.SIGTERM)
            try:
                if self.is_local:
                    self._start(num_cpus)
                elif self._is_ours:
                    self._connect(name)
            except BaseException:
                self.leave()
                raise
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray takes it over
        _leave_deaths_to_us()

    def warn_of_shortage(self, num_envs: int, cpus: float) -> None:
        """Say so where not all environments find a place at once."""
        import ray

        free = ray.available_resources().get("CPU", 0.0)
        if num_envs * cpus > free:
            print(
                f"The Ray cluster has {free:g} cores free of the {num_envs * cpus:g} that env.num_envs={num_envs} "
                f"environments of env.ray_cpus={cpus:g} ask for. Those without a place wait for one, for "
                f"{SECONDS_TO_BUILD / 60:g} minutes at most.",
                flush=True,
            )

    def leave(self) -> None:
        """Disconnect; a Ray that was started here ends. Safe to call again."""
        import ray

        if self._is_ours:
            self._is_ours = False
            ray.shutdown()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self, num_cpus: int) -> None:
        """A Ray on this machine; its processes die with this thread, which must be one that lasts."""
        import ray

        # The name of a socket in there may have 107 letters. Ray opens its own directory to everybody, hence one above.
        is_long = len(tempfile.gettempdir()) > 20 and os.path.isdir("/tmp")
        self._directory = tempfile.mkdtemp(prefix="dreamer_ray_", dir="/tmp" if is_long else None)
        with prepared_for_children():
            ray.init(
                "local", num_cpus=num_cpus, num_gpus=0, object_store_memory=STORE_BYTES, include_dashboard=False,
                configure_logging=False, logging_level=logging.ERROR, _temp_dir=os.path.join(self._directory, "ray"),
            )  # fmt: skip

    def _connect(self, name: str) -> None:
        import ray

        host, _, port = self.address.rpartition(":")
        try:
            if self.address != "auto":  # Ray itself would look for it for minutes
                socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
            ray.init(self.address, configure_logging=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{name}={self.address}: there is no Ray cluster that this machine is part of ({why}). Start Ray here, "
                "with `ray start --head`, or with `ray start --address=HOST:PORT` to join another machine's, or leave "
                "the address out for a Ray that ends with the run."
            ) from error


def _leave_deaths_to_us() -> None:
    """Ray prints up to thirty lines for a process or a node that dies, in the middle of the run's own, which say all of
    it in one. What environments print stays, and so does what a cluster that can grow has to say."""
    from ray._private import worker

    shown = worker.print_to_stdstream
    if getattr(shown, "__module__", "") == __name__:
        return

    def print_others(data: dict[str, Any], *arguments: Any, **keywords: Any) -> None:
        if data.get("pid") != "raylet":
            shown(data, *arguments, **keywords)

    worker.print_to_stdstream = print_others
