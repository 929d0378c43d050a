"""An exported agent is read as it was written, or refused in words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from dreamer.saved.agents import load_agent, load_config
from dreamer.saved.checks import DTYPES
from dreamer.saved.policy_file import HEADER, SHA256, read_policy, sha256_of, write_policy
from dreamer.types import Space

RESULTS = Path(__file__).parents[2] / "results"
SHIPPED = sorted(RESULTS.rglob("*.safetensors"))
WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(7)}


@pytest.fixture(scope="module")
def header() -> dict[str, Any]:
    """Of a real agent, without the sum."""
    return read_policy(SHIPPED[0])["dreamer"]


@pytest.fixture
def path(header, tmp_path) -> Path:
    path = tmp_path / "policy.safetensors"
    write_policy({"dreamer": header, "state_dict": WEIGHTS}, path)
    return path


def write(path: Path, header: Any, weights: dict[str, torch.Tensor] = WEIGHTS) -> None:
    """Whatever it is, with the sum that belongs to it where it has a place for one."""
    if isinstance(header, dict):
        header = {**header, SHA256: sha256_of(header, weights)}
    path.write_bytes(save(weights, metadata={HEADER: header if isinstance(header, str) else json.dumps(header)}))


def test_what_is_written_is_read(path, header, capsys):
    state = read_policy(path)
    assert state["dreamer"] == header and state["state_dict"].keys() == WEIGHTS.keys()
    assert all(torch.equal(state["state_dict"][key], value) for key, value in WEIGHTS.items())
    assert capsys.readouterr().out == ""


def test_one_flipped_bit_is_refused_or_changes_nothing(path):
    good, data, draw = read_policy(path), path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            state = read_policy(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
            continue
        assert state["dreamer"] == good["dreamer"]
        assert state["state_dict"].keys() == good["state_dict"].keys()
        assert all(torch.equal(state["state_dict"][key], value) for key, value in good["state_dict"].items())
    assert refused >= 55


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_flipped_bit_of_a_weight_is_called_damage(place, tmp_path):
    path = tmp_path / "policy.safetensors"
    data = bytearray(SHIPPED[0].read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start if place == "first" else -1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"policy\.safetensors is damaged: it is not what was written \(SHA-256\)"):
        read_policy(path)


@pytest.mark.parametrize("other", ["env_steps", "updates", "digest", "config"])
def test_the_sum_is_over_the_counters_and_the_config_too(path, header, other):
    changed = {**header, other: {**header["config"], "seed": 9} if other == "config" else header[other] * 2}
    changed[SHA256] = sha256_of(header, WEIGHTS)
    path.write_bytes(save(WEIGHTS, metadata={HEADER: json.dumps(changed)}))
    with pytest.raises(ValueError, match="is damaged: it is not what was written"):
        read_policy(path)


def test_the_sum_is_over_names_types_and_shapes_too():
    weight = torch.zeros(2, 3)
    others = [{"b": weight}, {"a": weight.T}, {"a": weight.int()}, {"a": torch.zeros(5)}, {"a": weight, "b": weight}]
    assert len({sha256_of({}, weights) for weights in [{"a": weight}, *others]}) == 6


def test_a_file_without_a_sum_is_read_and_a_line_says_so(path, header, capsys):
    path.write_bytes(save(WEIGHTS, metadata={HEADER: json.dumps(header)}))
    assert read_policy(path)["dreamer"] == header
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{path} has no SHA-256, so damage would not be seen; scripts/export.py writes one."]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ([], "is damaged: its header is a list, not a mapping."),
        ("no json", "is damaged: its header is no JSON."),
        ("[" * 100_000, "is damaged: its header is no JSON."),
        ({"config": None}, "is damaged: config is None, not of type dict."),
        ({"config": {"env": {"name": "${oc.env:HOME}"}}}, ": The saved config has env.name=${oc.env:HOME}; nothing"),
        ({"env_steps": "many"}, "is damaged: env_steps is many, not of type int."),
        ({"env_steps": True}, "is damaged: env_steps is True, not of type int."),
        ({"updates": -1}, "is damaged: it counts less than 0 steps or updates."),
        ({"digest": 5}, "is damaged: digest is 5, not of type str."),
        ({"sha257": "0"}, "is damaged: its header has the key sha257."),
    ],
)
def test_a_header_of_another_form_is_refused(path, header, change, expected):
    write(path, {**header, **change} if isinstance(change, dict) else change)
    with pytest.raises(ValueError) as caught:
        read_policy(path)
    assert str(caught.value).startswith(f"checkpoint={path}") and expected in str(caught.value)


@pytest.mark.parametrize("key", ["config", "digest", "env_steps", "updates"])
def test_a_header_that_lacks_something_is_refused(path, header, key):
    write(path, {name: value for name, value in header.items() if name != key})
    with pytest.raises(ValueError, match=f"is damaged: {key} is absent, not of type "):
        read_policy(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_read_nor_written(path, header, value):
    weights = {**WEIGHTS, "bias": torch.tensor([0.0, value])}
    write(path, header, weights)
    with pytest.raises(ValueError, match="bias holds values that are not finite"):
        read_policy(path)
    path.unlink()
    with pytest.raises(ValueError, match="bias holds values that are not finite"):
        write_policy({"dreamer": header, "state_dict": weights}, path)
    assert not path.exists()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.complex64, torch.bool, torch.uint8])
def test_types_that_no_agent_has_are_refused_by_the_name_of_the_tensor(path, header, dtype):
    write(path, header, {**WEIGHTS, "bias": torch.zeros(2).to(dtype)})
    with pytest.raises(ValueError, match=f"of another architecture: bias is {dtype}"):
        read_policy(path)


@pytest.mark.parametrize(
    ("deter", "expected"), [(8_000_000, "is of another architecture"), (8_000_000_000, "that no machine holds")]
)
def test_a_config_that_asks_for_a_huge_network_is_refused_before_it_is_built(deter, expected):
    path = SHIPPED[0]
    state = read_policy(path)
    state["dreamer"]["config"]["model"]["rssm"]["deter"] = deter  # 32 TB, or more than 64 bits count
    obs_space, action_space = {"image": Space((64, 64, 3), "uint8")}, Space((6,), "float32")
    with pytest.raises(ValueError, match=expected):
        load_agent(state, load_config(state), obs_space, action_space, path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_the_shipped_agents_carry_their_sum(path, capsys):
    state = read_policy(path)
    assert capsys.readouterr().out == "" and {value.dtype for value in state["state_dict"].values()} == {*DTYPES}
    with safe_open(path, framework="pt") as file:
        assert len(json.loads(file.metadata()[HEADER])[SHA256]) == 64
