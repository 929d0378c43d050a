"""Vector observations in units of their own spread."""

import torch
from tiny import BOTH, IMAGE, values

from dreamer.nn.standardize import Standardize
from dreamer.types import Space


def observations(*batch: int) -> dict[str, torch.Tensor]:
    return {key: values(space, *batch) for key, space in BOTH.items()}


def test_entries_of_vectors_get_mean_0_and_deviation_1_and_nothing_else_changes() -> None:
    rows = observations(1000)
    rows["height"] = rows["height"] * 0.01 + 5
    rows["pose"] = rows["pose"] * torch.tensor([[1.0, 20.0, 0.1], [3.0, 2.0, 1.0]]) - 7
    standardize = Standardize(BOTH, is_on=True)
    standardize.fit(rows)
    got = standardize(rows)
    for key in ("height", "pose"):
        assert got[key].shape == rows[key].shape and got[key].dtype == torch.float32
        torch.testing.assert_close(got[key].mean(0), torch.zeros(BOTH[key].shape), atol=1e-3, rtol=0)
        torch.testing.assert_close(got[key].std(0, correction=0), torch.ones(BOTH[key].shape), atol=1e-3, rtol=0)
    assert got["image"] is rows["image"] and got["dials"] is rows["dials"]
    torch.testing.assert_close(standardize.undo(got), rows)


def test_entries_that_hardly_vary_keep_their_unit() -> None:
    space = {"state": Space((3,), "float32")}
    rows = torch.stack([torch.full((50,), 2.0), 3 + 1e-5 * torch.arange(50), torch.arange(50.0)], 1)
    standardize = Standardize(space, is_on=True)
    standardize.fit({"state": rows})
    assert standardize.std[:2].tolist() == [1, 1] and standardize.std[2] > 10
    torch.testing.assert_close(standardize({"state": rows})["state"][:, 0], torch.zeros(50))


def test_nothing_changes_before_it_is_fitted() -> None:
    rows = observations(2, 3)
    for standardize in (Standardize(BOTH, is_on=True), Standardize(BOTH, is_on=False)):
        for key, value in standardize(rows).items():
            assert torch.equal(value, rows[key])


def test_without_vectors_or_where_it_is_off_a_checkpoint_holds_nothing_of_it() -> None:
    for standardize in (Standardize(BOTH, is_on=False), Standardize(IMAGE, is_on=True)):
        standardize.fit({})
        assert not standardize.state_dict() and not standardize.shapes
    assert {key: tuple(value.shape) for key, value in Standardize(BOTH, is_on=True).state_dict().items()} == {
        "mean": (7,),
        "std": (7,),
    }
