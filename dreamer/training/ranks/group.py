"""How the processes of a run find each other: started by hand, by torchrun or by srun, as Lightning knows them."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import psutil
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from dreamer import ranks
from dreamer.config.compose import flat, to_dict
from dreamer.config.schema import Config, TrainerConfig
from dreamer.training.ranks.children import LOOK, Children, end_with_parent

OF_MACHINE = ("trainer.threads", "trainer.device", "trainer.compile")
"""Keys that may differ between the ranks."""


@dataclass
class Group:
    """A run's place among its processes. One of a single process has no environment and no children.

    children: the other ranks of this machine, where this process has started them.
    """

    local_rank: int = 0
    environment: ClusterEnvironment | None = None
    children: Children | None = None

    def leave(self) -> None:
        """The run is over: let go of the other ranks, and wait for those that were started here."""
        if dist.is_initialized() and self.environment is not None:
            dist.destroy_process_group()
        if self.children is not None:
            self.children.end()
            for name in self.children.variables:
                os.environ.pop(name, None)
        self.environment = self.children = None


def join(config: TrainerConfig, words: list[str] | None) -> Group:
    """Meet the other ranks of the run, whom this process starts first where nobody else does.

    words: what the user typed, which the other processes are given too. ValueError, before any process is started,
    where trainer.devices and trainer.num_nodes are not what there is.
    """
    end_with_parent()
    environment = find_environment()
    check_started(config, environment)
    if config.world_size == 1:
        return Group()
    check_devices(config)
    children = None
    if not environment.creates_processes_externally:
        children = Children(config, environment, words)
    local_rank = environment.local_rank()
    environment.set_world_size(config.world_size)
    environment.set_global_rank(environment.node_rank() * config.devices + local_rank)
    group = Group(local_rank, environment, children)
    try:
        connect(config, environment, children)
    except RuntimeError as error:  # DistStoreError and DistNetworkError among them
        group.leave()
        raise ValueError(
            f"trainer.devices={config.devices} trainer.num_nodes={config.num_nodes}: the {config.world_size} processes "
            f"did not meet at {environment.main_address}:{environment.main_port}: "
            f"{str(error).splitlines()[0].rstrip('.')}."
        ) from error
    except BaseException:
        group.leave()
        raise
    if ranks.rank() > 0:
        be_silent()
    return group


def connect(config: TrainerConfig, environment: ClusterEnvironment, children: Children | None) -> None:
    """Make torch's group of all ranks. RuntimeError where one does not come."""
    os.environ.setdefault("MASTER_ADDR", environment.main_address)
    os.environ.setdefault("MASTER_PORT", str(environment.main_port))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and config.device in ("auto", "cuda") else "gloo"
    if backend != "gloo":
        torch.cuda.set_device(environment.local_rank())
    if config.num_nodes > 1 and (interface := interface_to(environment.main_address)):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    store = meet(config, environment, children) if isinstance(environment, LightningEnvironment) else None
    dist.init_process_group(
        backend,
        timeout=timedelta(seconds=config.rank_timeout),
        rank=environment.global_rank(),
        world_size=config.world_size,
        store=store,
    )


def meet(config: TrainerConfig, environment: ClusterEnvironment, children: Children | None) -> dist.Store:
    """The store through which the ranks find each other, once all are there.

    torch's own way waits as long for one of `children` that has ended as for one that is slow.
    """
    rank, size = environment.global_rank(), config.world_size
    deadline = time.monotonic() + config.rank_timeout
    store = dist.TCPStore(
        environment.main_address,
        environment.main_port,
        size,
        is_master=rank == 0,
        timeout=timedelta(seconds=config.rank_timeout),
        wait_for_workers=False,
        use_libuv=sys.platform != "win32",  # torch for Windows is built without
    )
    store.set(f"rank {rank}", "is here")
    while not store.check([f"rank {number}" for number in range(size)]):
        if children is not None and (fallen := children.fallen()):
            children.kill()
            raise RuntimeError(", ".join(words for _, words in fallen))
        if time.monotonic() > deadline:
            raise RuntimeError(f"some did not come within trainer.rank_timeout={config.rank_timeout:g} seconds")
        time.sleep(LOOK)
    return store


def interface_to(host: str) -> str | None:
    """The network interface of this machine that leads to a host; None where that is loopback, or not to be found out.

    gloo takes the one that the machine's own name leads to, which is loopback alone on many.
    """
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing
        own = probe.getsockname()[0]
        for name, addresses in psutil.net_if_addrs().items():
            if not own.startswith("127.") and any(address.address == own for address in addresses):
                return name
    return None


def find_environment() -> ClusterEnvironment:
    """Who has started this process: torchrun, srun, or a person (or the process that a person has started)."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:  # of sbatch alone there is one process
        try:
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:  # sbatch --ntasks, for one, in place of --ntasks-per-node
            raise ValueError(f"srun: {error}") from error
    return LightningEnvironment()


def check_devices(config: TrainerConfig) -> None:
    """ValueError where this machine has fewer GPUs than processes."""
    count = torch.cuda.device_count() if config.device in ("auto", "cuda") else 0
    if 0 < count < config.devices:
        raise ValueError(
            f"trainer.devices={config.devices}: this machine has {count} CUDA device{'' if count == 1 else 's'}; give "
            f"trainer.devices={count}, or trainer.device=cpu."
        )


def check_alike(config: Config, resume: tuple[int, int] | None) -> None:
    """ValueError where the ranks were started with other settings, or see other checkpoints (updates, env steps)."""
    own = flat(to_dict(config)), resume
    values, found = ranks.of_first(own)
    differ = [f"{key}={own[0][key]}" for key in own[0] if key not in OF_MACHINE and own[0][key] != values.get(key)]
    if differ:
        raise ValueError(f"{place()} was started with {', '.join(differ[:3])}, and rank 0 was not.")
    if resume != found:
        raise ValueError(
            f"{place()} finds another checkpoint in run_dir={config.run_dir} than rank 0; it must lie where all "
            "machines see it."
        )


def check_started(config: TrainerConfig, environment: ClusterEnvironment) -> None:
    """ValueError where torchrun or srun has started another number of processes than the keys ask for."""
    typed = f"trainer.devices={config.devices} trainer.num_nodes={config.num_nodes}"
    if isinstance(environment, TorchElasticEnvironment):
        name, tasks, each = "torchrun", environment.world_size(), os.environ["LOCAL_WORLD_SIZE"]
    elif isinstance(environment, SLURMEnvironment):
        if config.world_size == 1:  # as many runs as tasks, each of one process
            return
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        name, each = "srun", f"{tasks / nodes:g}"
    elif config.num_nodes > 1 and not {"NODE_RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(os.environ):
        raise ValueError(
            f"trainer.num_nodes={config.num_nodes}: set NODE_RANK (0 to {config.num_nodes - 1}), MASTER_ADDR (of node "
            "0) and MASTER_PORT on each node, or start by torchrun or srun (docs/scaling.md)."
        )
    else:
        return
    if tasks != config.world_size or each != str(config.devices):
        raise ValueError(
            f"{typed}: {name} has started {tasks} processes, {each} on this machine; give trainer.devices={each} "
            f"trainer.num_nodes={tasks / float(each):g}."
        )


@contextmanager
def together() -> Iterator[None]:
    """Every rank leaves this block, or none: what one refuses by a ValueError ends all.

    Rank 0 raises it, as its own or with the name of the rank, and the others end without a word.
    """
    fault: ValueError | None = None
    try:
        yield
    except ValueError as error:
        fault = error
    faults = ranks.everyones(None if fault is None else str(fault))
    if not any(faults):
        return
    number, message = next((number, message) for number, message in enumerate(faults) if message)
    if ranks.rank() > 0:
        sys.exit(2)
    if fault is not None:
        raise fault
    raise ValueError(f"Rank {number}: {message}")


def be_silent() -> None:
    """What rank 0 says is said once. Errors of the others are seen all the same."""
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def lost_ranks(group: Group, error: BaseException) -> str:
    """Which ranks are gone, in brackets, as far as this process knows."""
    who = group.children.lost() if group.children and isinstance(error, ranks.RankLost) else ""
    return f" ({who})" if who else ""


def place() -> str:
    return f"rank {ranks.rank()} on {socket.gethostname()}"
