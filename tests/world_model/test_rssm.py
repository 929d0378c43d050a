"""The recurrent state-space model over time: resets, stepping, and what depends on what."""

import pytest
import torch
from torch import Tensor

from dreamer.config.schema import RSSMConfig
from dreamer.types import Latent
from dreamer.world_model.rssm import RSSM

B, T, E, A = 3, 6, 7, 2


@pytest.fixture
def rssm() -> RSSM:
    return RSSM(RSSMConfig(deter=24, hidden=10, stoch=3, classes=5, blocks=4, img_layers=1), embed=E, action=A)


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    return {"embed": torch.randn(B, T, E), "prev_action": torch.randn(B, T, A), "is_first": torch.zeros(B, T).bool()}


def start_of(rssm: RSSM) -> Latent:
    index = torch.randint(0, rssm.classes, (B, rssm.stoch))
    return Latent(torch.randn(B, rssm.deter), torch.nn.functional.one_hot(index, rssm.classes).float())


def zeros(rssm: RSSM) -> Latent:
    return Latent(torch.zeros(B, rssm.deter), torch.zeros(B, rssm.stoch, rssm.classes))


def seeded(rssm: RSSM, start: Latent, inputs: dict[str, Tensor]) -> list[Tensor]:
    """deter, stoch and logits [B T ...], every call with the same random numbers."""
    torch.manual_seed(1)
    latent, logits = rssm.observe(**inputs, start=start)
    return [latent.deter, latent.stoch, logits]


@torch.no_grad()
def test_reset_inside_a_sequence_equals_a_fresh_start(rssm: RSSM, inputs: dict[str, Tensor]) -> None:
    inputs["is_first"][1, 3] = True
    whole = seeded(rssm, start_of(rssm), inputs)
    # The same rows 3.. from zeros, after as many random numbers as rows 0..2 have used.
    torch.manual_seed(1)
    tail = {key: value[:, 3:].clone() for key, value in inputs.items()}
    head = {key: value[:, :3] for key, value in inputs.items()}
    rssm.observe(**head, start=zeros(rssm))
    tail["prev_action"][:, 0] = 0
    tail["is_first"][:] = False
    fresh, logits = rssm.observe(**tail, start=zeros(rssm))
    for got, expected in zip(whole, (fresh.deter, fresh.stoch, logits), strict=True):
        torch.testing.assert_close(got[1, 3:], expected[1])
        assert not torch.equal(got[0, 3:], expected[0])  # rows without the reset remember


@torch.no_grad()
def test_reset_forgets_history_to_the_last_bit_and_in_its_own_row_alone(rssm: RSSM, inputs: dict[str, Tensor]) -> None:
    inputs["is_first"][1, 3] = True
    first = seeded(rssm, start_of(rssm), inputs)
    other = {key: value.clone() for key, value in inputs.items()}
    other["embed"][:, :3] = torch.randn(B, 3, E)
    other["prev_action"][:, :4] = 5 * torch.randn(B, 4, A)  # that of the reset row included
    for got, expected in zip(seeded(rssm, start_of(rssm), other), first, strict=True):
        assert torch.equal(got[1, 3:], expected[1, 3:])
        assert not torch.equal(got[0, 3:], expected[0, 3:])
        assert not torch.equal(got[1, :3], expected[1, :3])


@torch.no_grad()
def test_step_by_step_equals_the_whole_sequence(rssm: RSSM, inputs: dict[str, Tensor]) -> None:
    inputs["is_first"][0, 2] = True
    start = start_of(rssm)
    whole = seeded(rssm, start, inputs)
    torch.manual_seed(1)
    latent = start
    for t in range(T):
        row, logits = rssm.observe(**{key: value[:, t : t + 1] for key, value in inputs.items()}, start=latent)
        for got, expected in zip((row.deter, row.stoch, logits), whole, strict=True):
            torch.testing.assert_close(got[:, 0], expected[:, t])
        latent = Latent(row.deter[:, 0], row.stoch[:, 0])


def unchanged_rows(got: list[Tensor], expected: list[Tensor]) -> list[int]:
    """How many rows of deter, stoch and logits are equal before the first that differs, in batch row 1.

    The other batch rows must be equal throughout.
    """
    counts = []
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a[[0, 2]], b[[0, 2]])
        is_equal = (a == b)[1].flatten(1).all(1)
        counts.append(int(is_equal.cumprod(0).sum()))
    return counts


@torch.no_grad()
@pytest.mark.parametrize("t", [0, 3])
def test_an_observation_reaches_z_of_its_row_but_not_h(rssm: RSSM, inputs: dict[str, Tensor], t: int) -> None:
    start = start_of(rssm)
    before = seeded(rssm, start, inputs)
    inputs["embed"][1, t] += 30
    deter, stoch, logits = unchanged_rows(seeded(rssm, start, inputs), before)
    assert logits == t
    assert stoch >= t  # the sample may be the same one
    assert deter >= t + 1


@torch.no_grad()
@pytest.mark.parametrize("t", [0, 3])
def test_a_previous_action_reaches_h_of_its_own_row(rssm: RSSM, inputs: dict[str, Tensor], t: int) -> None:
    start = start_of(rssm)
    before = seeded(rssm, start, inputs)
    inputs["prev_action"][1, t] *= -1
    deter, stoch, logits = unchanged_rows(seeded(rssm, start, inputs), before)
    assert (deter, logits) == (t, t)
    assert stoch >= t


@torch.no_grad()
def test_actions_beyond_one_are_shrunk_entry_by_entry(rssm: RSSM) -> None:
    small, large = torch.tensor([[1.0, -0.3], [-1.0, 1.0]]), torch.tensor([[7.0, -0.3], [-2.0, 1e6]])
    latent = Latent(torch.randn(2, 24), torch.randn(2, 3, 5))
    torch.testing.assert_close(rssm.recur(latent, large), rssm.recur(latent, small))


@pytest.mark.parametrize("step", ["observe", "imagine"])
def test_gradients_flow_through_time_and_samples(rssm: RSSM, inputs: dict[str, Tensor], step: str) -> None:
    """The loss of a later row trains what an earlier row remembers, through h and straight through z."""
    if step == "observe":
        embed = inputs["embed"].requires_grad_()
        latent, _ = rssm.observe(**inputs, start=start_of(rssm))
        latent.deter[:, -1].square().sum().backward()
        assert embed.grad is not None
        assert (embed.grad[:, :-1].abs().sum((0, 2)) > 0).all()
        assert not embed.grad[:, -1].any()  # x_t has no part in h_t
    else:
        action = torch.randn(B, A, requires_grad=True)
        latent = rssm.imagine_step(rssm.imagine_step(start_of(rssm), action), torch.randn(B, A))
        (latent.stoch * torch.randn(B, 3, 5)).sum().backward()
        assert action.grad is not None
        assert action.grad.abs().sum() > 0


@torch.no_grad()
def test_imagined_z_follows_the_prior(rssm: RSSM) -> None:
    start = Latent(torch.randn(1, 24).expand(4000, -1), torch.zeros(4000, 3, 5))
    latent = rssm.imagine_step(start, torch.zeros(4000, A))
    probs = 0.99 * torch.softmax(rssm.prior(latent.deter[:1]), -1) + 0.01 / 5
    torch.testing.assert_close(latent.stoch.mean(0), probs[0], rtol=0, atol=0.04)
