"""dreamer/viewer/session.py: what the commands of the page do to the episode and its dreams."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from viewer_pages import unpacked

from dreamer.viewer import session as session_module
from dreamer.viewer.film import film_of
from dreamer.viewer.messages import greeting, view
from dreamer.viewer.session import SAMPLES, Session


def played(session: Session, ticks: int) -> Session:
    for _ in range(ticks):
        session.tick()
    return session


def test_watch_shows_row_reconstruction_and_dream_of_the_same_moment(make_session):
    session = played(make_session(), 7)
    header, pictures = unpacked(view(session))
    assert (header["mode"], header["at"], header["rows"], header["start"], header["step"]) == ("watch", 7, 8, 0, 7)
    assert header["real"]["reward"] == 7 and pictures["real"][0, 0, 0] == 7
    assert set(pictures) == {"real", "reconstruction", "dream 0"}
    assert len(header["dream"]["told"]) == len(header["dream"]["kl"]) == SAMPLES
    assert header["vectors"]["real"][header_labels(session).index("counter[0]")] == 7
    taken = session.real.episode.rows[6].action
    assert np.allclose(header["action"], taken, atol=1e-4), "the dream follows the actions of the episode"


def header_labels(session: Session) -> list[str]:
    return unpacked(greeting(session, "counter", "", ()))[0]["labels"]


def test_the_model_is_shown_a_frame_again_every_so_many_rows_or_when_asked(make_session):
    session = make_session()
    session.handle({"do": "every", "to": 3})
    assert [_start_at(session) for _ in range(8)] == [0, 0, 0, 4, 4, 4, 4, 8]
    session.handle({"do": "dream"})
    assert unpacked(view(session))[0]["start"] == 8 and unpacked(view(session))[0]["step"] == 0
    session.handle({"do": "seek", "to": 6})
    assert unpacked(view(session))[0]["start"] == 4, "scrubbing back shows the dream of that time"


def _start_at(session: Session) -> int:
    session.tick()
    return unpacked(view(session))[0]["start"]


def test_a_dream_from_here_replaces_later_ones_and_earlier_rows_keep_theirs(make_session):
    session = played(make_session(), 9)
    session.handle({"do": "seek", "to": 5})
    session.handle({"do": "dream"})
    played(session, 2)
    assert (session.at, session.shown_dream.start, len(session.real)) == (7, 5, 10)
    session.handle({"do": "seek", "to": 4})
    assert session.shown_dream.start == 0 and len(session.shown_dream) == 5


def test_stepping_back_and_on_repeats_what_was_seen_and_a_pause_stays_one(make_session):
    session = played(make_session(), 5)
    before = view(session)
    session.handle({"do": "step", "by": -1})
    assert session.at == 4 and not session.is_playing
    session.handle({"do": "step", "by": 1})
    again, now = unpacked(view(session)), unpacked(before)
    assert again[0] == {**now[0], "is_playing": False}
    assert all(np.array_equal(again[1][name], now[1][name]) for name in now[1])


def test_the_end_of_an_episode_stops_playing_and_a_new_one_has_another_seed(make_session):
    session = make_session()
    assert session.is_playing
    played(session, 30)
    header = unpacked(view(session))[0]
    assert header["is_over"] and not header["is_playing"] and header["at"] == 20
    session.handle({"do": "new"})
    fresh = unpacked(view(session))[0]
    assert (fresh["episode"], fresh["at"], fresh["is_playing"]) == (2, 0, True)
    assert fresh["vectors"]["real"] != header["vectors"]["real"]


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_branch_dreams_several_times_on_from_the_row_that_was_shown(make_session, count):
    session = played(make_session(), 6)
    session.handle({"do": "seek", "to": 4})
    session.handle({"do": "branch", "count": count})
    first, pictures = unpacked(view(session))
    assert (first["start"], first["step"], first["at"], first["is_playing"]) == (4, 0, 4, True)
    assert sum(name.startswith("dream") for name in pictures) == count
    played(session, 5)
    header, pictures = unpacked(view(session))
    assert (header["step"], header["at"], header["rows"]) == (5, 6, 7), "the episode stands still"
    assert len(header["dream"]["value"]) == count and header["dream"]["kl"] is None
    session.handle({"do": "watch"})
    assert unpacked(view(session))[0]["at"] == 4


def test_steering_takes_the_viewers_action_until_it_is_handed_back(make_session):
    session = played(make_session(), 3)
    session.handle({"do": "steer"})
    session.tick()
    assert unpacked(view(session))[0]["action"] == [0, 0], "nothing is pushed before the viewer does"
    session.handle({"do": "act", "action": [1, -0.5]})
    session.tick()
    assert unpacked(view(session))[0]["action"] == [1, -0.5]
    session.handle({"do": "hand", "to": "policy"})
    session.tick()
    dream = session.shown_dream.dream
    assert unpacked(view(session))[0]["action"] != [1, -0.5] and len(dream.rows) == 4
    session.handle({"do": "hand", "to": "viewer"})
    session.tick()
    assert unpacked(view(session))[0]["action"] == [0, 0]


def test_whoever_steers_from_an_earlier_step_dreams_anew_from_there(make_session):
    session = played(make_session(), 3)
    session.handle({"do": "steer"})
    played(session, 6)
    session.handle({"do": "seek", "to": 2})
    session.handle({"do": "act", "action": [-1, -1]})
    session.tick()
    assert (session.step, len(session.shown_dream)) == (3, 4)
    assert unpacked(view(session))[0]["action"] == [-1, -1]


def test_discrete_choices_are_steered_too(make_session):
    session = make_session("dummy_counter_discrete")
    session.handle({"do": "steer"})
    session.handle({"do": "act", "action": [2]})
    session.tick()
    assert unpacked(view(session))[0]["action"] == [2]
    assert unpacked(greeting(session, "counter", "", ()))[0]["choices"] == [3]
    with pytest.raises(ValueError, match="does not give"):
        session.handle({"do": "act", "action": [3]})


@pytest.mark.parametrize(
    "command",
    [
        {}, {"do": "stop"}, {"do": ["play"]}, {"do": "seek"}, {"do": "seek", "to": -1}, {"do": "seek", "to": True},
        {"do": "step", "by": 7}, {"do": "branch", "count": 10**6}, {"do": "rate", "to": float("nan")},
        {"do": "rate", "to": 1e9}, {"do": "act", "action": [0.0]}, {"do": "act", "action": [0.0, 2.0]},
        {"do": "act", "action": "00"}, {"do": "act", "action": [None, 0]}, {"do": "hand", "to": "nobody"},
    ],
)  # fmt: skip
def test_commands_that_the_page_does_not_give_are_refused(make_session, command):
    with pytest.raises(ValueError, match="does not give"):
        make_session().handle(command)


def test_what_is_kept_is_bounded(make_session, monkeypatch):
    monkeypatch.setattr(session_module, "MOST_ROWS", 12)
    session = played(make_session(), 30)
    assert len(session.real) == 12 and session.is_full and not session.is_playing
    session.handle({"do": "branch", "count": 4})
    played(session, 30)
    assert len(session.shown_dream) * 4 == 12 and not session.is_playing


@pytest.mark.parametrize(("mode", "size"), [("watch", (752, 372)), ("branch", (512, 448)), ("steer", (480, 372))])
def test_a_film_shows_what_was_seen(make_session, mode, size):
    session = played(make_session(), 4)
    if mode != "watch":
        session.handle({"do": mode, "count": 9})
        played(session, 4)
    with Image.open(io.BytesIO(film_of(session).encode())) as film:
        assert getattr(film, "n_frames", 1) == 5 and film.format == "GIF"
        assert film.size[0] == size[0], film.size


def test_a_film_of_one_frame_is_refused(make_session):
    with pytest.raises(ValueError, match="only one frame"):
        film_of(make_session())


def test_an_agent_that_sees_numbers_alone_has_lines_and_a_picture_of_the_episode(make_session):
    session = played(make_session(obs="proprio"), 3)
    header, pictures = unpacked(view(session))
    assert set(pictures) == {"real"} and pictures["real"][0, 0, 0] == 3
    low, high = header["vectors"]["dream"][1:]
    assert all(a <= b for a, b in zip(low, high, strict=True))
    assert len(film_of(session).encode()) > 0
