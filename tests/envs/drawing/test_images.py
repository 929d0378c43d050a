import numpy as np
import pytest

from dreamer.envs.drawing.images import channels_last, common_size, in_colour, is_picture, resize, shrink


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_smaller_picture_holds_the_means_of_areas(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 12, channels)).astype(np.uint8)
    image[..., 3:] = 0  # a fourth channel is no transparency that would blacken the others
    means = image.reshape(4, 2, 4, 3, channels).mean((1, 3))
    small = resize(image, 4, 4)
    assert small.shape == (4, 4, channels) and small.dtype == np.uint8 and small.flags.writeable
    assert np.abs(small - means).max() <= 1


def test_a_picture_of_the_right_size_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize(image, 8, 8), image)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((84, 84), np.uint8, True),
        ((84, 84, 3), np.uint8, True),
        ((84, 80, 1), np.uint8, True),
        ((4, 84, 84), np.uint8, True),
        ((16, 16), np.uint8, True),
        ((7, 7, 3), np.uint8, False),  # a board, in codes
        ((3, 84, 15), np.uint8, False),
        ((9, 9), np.uint8, False),
        ((0, 3), np.uint8, False),
        ((84, 84, 5), np.uint8, False),
        ((84, 84, 3), np.float32, False),
        ((128,), np.uint8, False),
        ((2, 84, 84, 3), np.uint8, False),
    ],
)
def test_pictures_are_known_by_shape_and_type(shape: tuple[int, ...], dtype: type, expected: bool) -> None:
    assert is_picture(shape, np.dtype(dtype)) == expected


def test_channels_come_last() -> None:
    image = np.arange(2 * 6 * 3).reshape(2, 6, 3).astype(np.uint8)
    np.testing.assert_array_equal(channels_last(image.transpose(2, 0, 1)), image)
    np.testing.assert_array_equal(channels_last(image), image)
    np.testing.assert_array_equal(channels_last(image[..., 0]), image[..., :1])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_people_see_three_channels_of_any_picture(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 5, channels)).astype(np.uint8)
    np.testing.assert_array_equal(in_colour(image), image[..., [0, 0, 0] if channels == 1 else [0, 1, 2]])


@pytest.mark.parametrize(
    ("sizes", "wish", "expected"),
    [
        ([(64, 64)], None, (64, 64)),
        ([(96, 96)], None, (96, 96)),
        ([(84, 84)], None, (80, 80)),
        ([(40, 72)], None, (48, 80)),
        ([(7, 7)], None, (16, 16)),
        ([(210, 160)], None, (64, 64)),
        ([(64, 64), (84, 32)], None, (80, 64)),
        ([(210, 160), (64, 64)], 96, (96, 96)),
    ],
)
def test_pictures_get_one_size_that_can_be_halved_four_times(
    sizes: list[tuple[int, int]], wish: int | None, expected: tuple[int, int]
) -> None:
    assert common_size(sizes, wish) == expected


def test_a_picture_for_people_keeps_its_proportions() -> None:
    assert shrink(np.zeros((400, 600, 3), np.uint8)).shape == (171, 256, 3)
    assert shrink(np.zeros((40, 60, 3), np.uint8)).shape == (40, 60, 3)
