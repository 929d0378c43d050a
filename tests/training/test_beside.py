"""Runs that collect beside their updates: repeatable, ended cleanly by an error, measured."""

from __future__ import annotations

import threading

import pytest
import torch

from dreamer.data.collector import THREAD_NAME
from dreamer.envs.suites.dummy import Counter
from dreamer.errors import RunStopped
from dreamer.training.display import speeds
from dreamer.training.player import Player
from dreamer.training.run import prepare
from dreamer.training.speed import threads as threads_module
from dreamer.training.speed.threads import MOST_THREADS, choose_threads, free_cores
from dreamer.types import Policy

WORDS = ("env=dummy_counter", "env.obs=proprio", "trainer.max_steps=500", "trainer.eval_every=400")


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


@pytest.fixture
def run(tiny, tmp_path, run_directory):
    """Trains to the end: what is in the checkpoint, and the scalars."""

    def run(name: str, *words: str):
        prepare(tiny(f"run_dir={tmp_path / name}", *WORDS, *words)).fit()
        directory = run_directory(tmp_path / name)
        return directory.checkpoint, directory.events

    return run


@pytest.mark.slow
def test_runs_are_repeatable_to_the_bit_on_and_off_and_make_the_same_number_of_updates(run):
    states = {}
    for overlap in ("true", "false"):
        (one, events), (other, _) = (run(f"{overlap}{index}", f"trainer.overlap={overlap}") for index in range(2))
        assert all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())
        states[overlap] = one
        assert 0 < events.Scalars("time/update_share")[-1].value <= 1
        assert not threads()
    on, off = states["true"], states["false"]
    assert on["global_step"] == off["global_step"] > 3
    stepper = [state["dreamer"]["dataset"]["collector"]["stepper"] for state in (on, off)]
    assert stepper[0]["policy_steps"] == stepper[1]["policy_steps"] and stepper[0]["env_steps"] == 500
    key = next(name for name in on["state_dict"] if name.endswith("weight"))
    assert not torch.equal(on["state_dict"][key], off["state_dict"][key]), "batches hold other rows"


@pytest.mark.slow
def test_another_overlap_is_another_experiment(tiny, run, tmp_path):
    run("run")
    with pytest.raises(ValueError, match=r"trainer.overlap: False -> True"):
        prepare(tiny(f"run_dir={tmp_path / 'run'}", *WORDS, "trainer.overlap=true"))


@pytest.mark.parametrize("overlap", ["true", "false"])
def test_error_of_an_environment_ends_the_run_with_all_environments_closed(tiny, tmp_path, monkeypatch, overlap):
    closed, step = [], Counter.step

    def fall(self, action):
        if self._taken == 60:
            raise RuntimeError("it fell over")
        self._taken += 1
        return step(self, action)

    monkeypatch.setattr(Counter, "_taken", 0, raising=False)
    monkeypatch.setattr(Counter, "step", fall)
    monkeypatch.setattr(Counter, "close", lambda self: closed.append(threading.current_thread().name))
    training = prepare(tiny(f"run_dir={tmp_path / 'run'}", *WORDS, f"trainer.overlap={overlap}", "env.num_envs=2"))
    with pytest.raises(RunStopped, match=r"(?s)Environment \d cannot go on.*in fall\n.*RuntimeError: it fell over"):
        training.fit()
    assert len(closed) == 2 and not threads()


def test_player_acts_with_the_weights_of_the_last_refresh(tiny):
    training = prepare(tiny("run_dir=runs/none", *WORDS))
    agent = training.agent
    flags = [weight.requires_grad for weight in agent.parameters()]
    player, plain = Player(agent, 0, own_weights=True), Player(agent, 0, own_weights=False)
    assert isinstance(player, Policy) and isinstance(plain, Policy)
    state = player.state_dict()
    obs = {key: torch.randn(1, *space.shape).numpy() for key, space in agent.obs_space.items()}
    action = torch.zeros(1, *agent.action_space.shape).numpy()
    args = obs, agent.initial(1), action, torch.ones(1, dtype=torch.bool).numpy()

    def deter(policy: Player) -> torch.Tensor:
        policy.load_state_dict(state)
        return torch.from_numpy(policy.act(*args)[1]["deter"])

    before = deter(player)
    assert torch.equal(before, deter(plain))
    torch.manual_seed(3)
    drawn = torch.rand(1)
    with torch.no_grad():
        for weight in agent.parameters():
            weight.add_(0.1)
    torch.manual_seed(3)
    assert torch.equal(deter(player), before) and not torch.equal(deter(plain), before)
    assert torch.equal(torch.rand(1), drawn), "acting draws nothing from torch's own generator"
    player.refresh()
    assert torch.equal(deter(player), deter(plain))
    assert player._agent.world_model.decoder is agent.world_model.decoder, "what does not act is not copied"
    assert [weight.requires_grad for weight in agent.parameters()] == flags


def test_threads_are_what_was_asked_for_or_the_cores_less_one_for_the_environments(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert choose_threads(3, overlap=True) == choose_threads(3, overlap=False) == 3
    cores = free_cores()
    assert choose_threads(0, overlap=False) == min(cores, MOST_THREADS)
    assert choose_threads(0, overlap=True) == max(1, min(cores - 1, MOST_THREADS))
    for text, expected in (("100000 100000", 1), ("50000 100000", 1), ("max 100000", None)):
        (tmp_path / "cpu.max").write_text(text)
        assert free_cores(tmp_path) == (expected or free_cores(tmp_path / "none"))
    monkeypatch.setattr(threads_module, "free_cores", lambda: 6)
    for text, expected in (("2", 2), ("1,4", 1), ("1000", 6), ("many", 6), ("", 6), ("0", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert choose_threads(0, overlap=False) == expected
        assert choose_threads(0, overlap=True) == min(expected, 5), "the environments' core is none of these"


def test_share_counts_from_the_first_update_or_the_last_row_on(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(speeds.time, "monotonic", lambda: now[0])
    share = speeds.Share()
    now[0] = 50.0
    for _ in range(2):  # 3 seconds of update, 1 second of something else
        share.begin()
        now[0] += 3
        share.end()
        now[0] += 1
    assert share.take() == pytest.approx(0.75)
    now[0] += 2
    share.begin()
    now[0] += 2
    share.end()
    assert share.take() == pytest.approx(0.5)
