"""A stranger's agent runs no program, by evaluate, export, plot, report or resume, unless the user names it too."""

from __future__ import annotations

import copy
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import pytest
import torch
import yaml
from gymnasium.envs.registration import EnvSpec
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from safetensors.torch import save

from dreamer.agent import Agent
from dreamer.config.compose import to_dict
from dreamer.config.digest import digest
from dreamer.envs.make import make_env
from dreamer.saved.policy_file import HEADER, SHA256, read_policy, sha256_of, write_policy
from dreamer.training.run import prepare

ROOT = Path(__file__).parents[2]
HELPER = """
from pathlib import Path
from robots import Arm
Path("marker").touch()
"""
TOUCH = {"command": "touch marker"}
ATTACKS: dict[str, dict[str, Any]] = {
    "os.system": {"suite": "custom", "class": "os.system", "kwargs": TOUCH},
    "subprocess.Popen": {"suite": "custom", "class": "subprocess.Popen", "kwargs": {"args": ["touch", "marker"]}},
    "posix.system": {"suite": "custom", "class": "posix:system", "kwargs": TOUCH},
    "os.popen": {"suite": "custom", "class": "os.popen", "kwargs": {"cmd": "touch marker"}},
    "class": {"suite": "custom", "class": "stranger.Arm"},
    "class_and_import": {"suite": "custom", "class": "robots.Arm", "import": "stranger"},
    "import": {"suite": "gymnasium", "id": "CartPole-v1", "import": "stranger"},
    "module_in_id": {"suite": "gymnasium", "id": "stranger:CartPole-v1"},
    "foreign_id": {"suite": "gymnasium", "id": "Stranger-v0"},
    "resolver": {"suite": "dummy", "name": "${mark:}"},
    "resolver_in_kwargs": {"suite": "dummy", "name": "memory", "kwargs": {"delay": "${mark:}"}},
    "resolver_in_key": {"suite": "dummy", "name": "memory", "kwargs": {"${mark:}": 1}},
    "home": {"suite": "dummy", "name": "${oc.env:HOME}"},
    "decode": {"suite": "dummy", "name": "memory", "kwargs": {"delay": "${oc.decode:'[${mark:}]'}"}},
}
READS_ONLY = [name for name in ATTACKS if not name.startswith(("resolver", "home", "decode"))]
"""Attacks whose config holds plain values, which export, plot and report take as they are."""

SOME = ("os.system", "import", "foreign_id", "resolver")


class Stranger(NamedTuple):
    """What a test does with the files: `send` writes them, `script` runs one of scripts/ in this process."""

    send: Callable[..., Path]
    script: Callable[..., tuple[int, str]]
    marker: Path


@pytest.fixture(scope="module")
def honest_state() -> dict[str, Any]:
    return read_policy(ROOT / "results" / "walker_walk_state" / "policy.safetensors")


@pytest.fixture
def stranger(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys, honest_state) -> Stranger:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    (tmp_path / "stranger.py").write_text(HELPER)
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    monkeypatch.setitem(gymnasium.registry, "Stranger-v0", EnvSpec("Stranger-v0", "stranger:Arm"))
    marker = tmp_path / "marker"
    OmegaConf.register_new_resolver("mark", lambda: str(marker.touch()), replace=True)

    def send(kind: str, env: dict[str, Any]) -> Path:
        """The agent as `policy.safetensors`, `agent.ckpt` or the run directory `run`, with these keys of `env`."""
        state = copy.deepcopy(honest_state)
        values = state["dreamer"]["config"]
        for key in ("camera", "render", "max_reward"):
            values["env"].pop(key)
        values["env"] |= {"name": "robot", "obs": "auto" if "suite" in env else "proprio", **env}
        if env.get("suite") == "dummy":
            values["env"]["obs"] = "proprio"
        path = (
            tmp_path / {"policy": "policy.safetensors", "ckpt": "agent.ckpt", "run": "run/checkpoints/last.ckpt"}[kind]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "policy":
            header = {**state["dreamer"], SHA256: sha256_of(state["dreamer"], state["state_dict"])}
            path.write_bytes(save(state["state_dict"], metadata={HEADER: json.dumps(header)}))
            return path
        dataset = {"updates_due": 0, "schedule": {}, "collector": {}, "replay": {}}
        state["dreamer"] |= {"random": {"cpu": torch.get_rng_state()}, "dataset": dataset}
        callbacks = {"RunLog": {"wall_seconds": 0.0}, "Evaluate": {"due": 0}, "OpenLoopVideo": {"due": 0}}
        rest = {"global_step": 0, "loops": {"fit_loop": {}}, "callbacks": callbacks, "lr_schedulers": []}
        torch.save({**state, **rest, "optimizer_states": [{"state": {}, "param_groups": []}]}, path)
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(values))
        (tmp_path / "run" / "returns.csv").write_text("env_step,wall_seconds,return,length\n500,1,2,500\n")
        return path if kind == "ckpt" else tmp_path / "run"

    def script(name: str, *words: str) -> tuple[int, str]:
        """Exit status and what was printed."""
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / name), *words])
        GlobalHydra.instance().clear()
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, "".join(capsys.readouterr())

    return Stranger(send, script, marker)


@pytest.mark.parametrize(
    ("attack", "kind"),
    [(attack, "policy") for attack in ATTACKS] + [(attack, kind) for attack in SOME for kind in ("ckpt", "run")],
)
def test_evaluate_refuses_and_runs_nothing(stranger, attack, kind):
    status, printed = stranger.script("evaluate.py", f"checkpoint={stranger.send(kind, ATTACKS[attack])}")
    assert not stranger.marker.exists()
    assert status == 2 and len(printed.splitlines()) == 1
    if attack in READS_ONLY:
        words = [f"env.{key}={value}" for key, value in ATTACKS[attack].items() if key in ("class", "import", "id")]
        assert printed.startswith(
            "error: The saved config wants to run code that does not ship with this project: env."
        )
        assert "It was not run." in printed and set(printed.split(" add: ")[1].split()) == set(words)
        assert str(ATTACKS[attack].get("kwargs", "")) in printed
    else:
        assert "nothing in a saved config is interpolated" in printed or "no name" in printed


@pytest.mark.parametrize("attack", ["os.system", "subprocess.Popen", "posix.system"])
def test_what_can_be_no_environment_is_not_called_even_where_it_is_typed(stranger, attack):
    name = ATTACKS[attack]["class"]
    path = stranger.send("policy", ATTACKS[attack])
    status, printed = stranger.script("evaluate.py", f"checkpoint={path}", f"env.class={name}")
    assert not stranger.marker.exists()
    assert status == 2 and printed.startswith(f"error: env.class={name} ")


@pytest.mark.parametrize(
    ("attack", "words", "expected"),
    [
        ("class", ["env.class=robots.Arm"], "env.class=robots.Arm was typed, but the saved config has stranger.Arm;"),
        ("import", ["env.import=os"], "env.import=os was typed, but the saved config has stranger;"),
        ("import", ["env.id=CartPole-v1"], "The saved config wants to run code"),
        ("import", ["env.import=stranger"], "The saved config wants to run code"),
        (
            "foreign_id",
            ["env.class=stranger.Arm"],
            "env.class=stranger.Arm was typed, but the saved config has no such",
        ),
    ],
)
def test_words_that_are_not_the_files_open_nothing(stranger, attack, words, expected):
    status, printed = stranger.script("evaluate.py", f"checkpoint={stranger.send('policy', ATTACKS[attack])}", *words)
    assert not stranger.marker.exists()
    assert status == 2 and printed.startswith(f"error: {expected}")


@pytest.mark.parametrize("attack", ATTACKS)
def test_resume_builds_what_was_typed_and_never_what_the_checkpoint_names(stranger, tiny, attack):
    path = stranger.send("run", ATTACKS[attack])
    with pytest.raises(ValueError, match=r"was started with other settings|cannot be resumed"):
        prepare(tiny(f"run_dir={path}", "env=dummy_recall"))
    assert not stranger.marker.exists()


@pytest.mark.parametrize("attack", READS_ONLY)
def test_export_builds_nothing(stranger, attack):
    path = stranger.send("run", ATTACKS[attack])
    status, printed = stranger.script("export.py", f"checkpoint={path}", "out=out.safetensors")
    assert status == 0 and printed.startswith("wrote out.safetensors"), printed
    assert not stranger.marker.exists()


@pytest.mark.parametrize("attack", READS_ONLY)
@pytest.mark.parametrize("format", ["onnx", "torch_export"])
def test_export_of_a_step_refuses_and_runs_nothing(stranger, attack, format):
    path = stranger.send("policy", ATTACKS[attack])
    status, printed = stranger.script("export.py", f"checkpoint={path}", f"format={format}")
    assert not stranger.marker.exists()
    assert status == 2 and printed.startswith("error: The saved config wants to run code that does not ship with this")
    assert not [*path.parent.glob("*.onnx"), *path.parent.glob("*.pt2")]


@pytest.mark.parametrize("attack", ["os.system", "import"])
def test_plot_builds_nothing(stranger, attack):
    status, printed = stranger.script("plot.py", f"runs=[{stranger.send('run', ATTACKS[attack])}]")
    assert status == 0, printed
    assert not stranger.marker.exists()


@pytest.mark.parametrize("attack", ["os.system", "import", "module_in_id"])
def test_report_builds_nothing(stranger, attack):
    status, printed = stranger.script("report.py", f"run={stranger.send('run', ATTACKS[attack])}")
    assert status == 0 and printed.startswith("wrote report.html"), printed
    assert not stranger.marker.exists()


@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - READS_ONLY))
def test_export_plot_and_report_refuse_to_interpolate(stranger, attack):
    path = stranger.send("run", ATTACKS[attack])
    for words in (
        ["export.py", f"checkpoint={path}", "out=out.safetensors"],
        ["plot.py", f"runs=[{path}]"],
        ["report.py", f"run={path}"],
    ):
        status, printed = stranger.script(*words)
        assert status == 2 and "The saved config has " in printed
    assert not stranger.marker.exists()


@pytest.mark.slow
def test_an_honest_robot_plays_where_the_same_words_are_typed_and_else_is_not_even_imported(tmp_path, tiny):
    """As real processes: a robot trained elsewhere, whose file lies beside."""
    config = tiny("run_dir=runs/x", "env=custom", "env.class=robots.Blind", "env.kwargs.length=5")
    env = make_env(config.env)
    weights = Agent(config.model, env.obs_space, env.action_space).state_dict()
    values = to_dict(config)
    values["env"]["class"] = "visiting.Blind"
    state = {"config": values, "digest": digest(config), "env_steps": 0, "updates": 0}
    write_policy({"dreamer": state, "state_dict": weights}, tmp_path / "robot.safetensors")
    shutil.copy(ROOT / "tests" / "envs" / "robots.py", tmp_path / "visiting.py")
    with (tmp_path / "visiting.py").open("a") as file:
        file.write("open('marker', 'w').close()\n")

    def evaluate(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "evaluate.py"), "checkpoint=robot.safetensors", "episodes=1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
        )

    refused = evaluate()
    assert refused.returncode == 2 and refused.stderr.endswith(" add: env.class=visiting.Blind\n"), refused.stderr
    assert "env.kwargs {'length': 5}" in refused.stderr and not (tmp_path / "marker").exists()
    played = evaluate("env.class=visiting.Blind")
    assert played.returncode == 0 and "episode 0: return" in played.stdout, played.stderr
    assert (tmp_path / "marker").exists()
