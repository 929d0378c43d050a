"""What a run shows in a terminal of some width, and elsewhere: through a pseudo-terminal, as a shell has one."""

from __future__ import annotations

import copy
import io
import os
import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from dreamer.config.schema import Config
from dreamer.training.display.banner import fitted
from dreamer.training.display.next_commands import next_commands, quoted, word
from dreamer.training.display.progress import Bar, Lines, short
from dreamer.training.display.speeds import Speed
from dreamer.training.display.terminal import BARS, MOST_RETURNS, Returns, sparkline

ROOT = Path(__file__).parents[3]
fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
BANNER = "\n".join(
    [
        "run_dir      runs/walker",
        f"env          {'walker_walk, vision, ' * 3}seed 0",
        f"model        {'laptop, cpu, ' * 8}",
        f"overlap      {'environments and updates take turns ' * 4}",
        f"max_steps    {'environment steps ' * 8}",
        f"train_ratio  {'replayed rows ' * 15}",
        f"replay       {'policy steps ' * 8}",
    ]
)


class Speeds(Speed):
    """A run at 61.25 environment steps and 4.2 updates a second."""

    env_steps, updates = 61.25, 4.2  # pyright: ignore


@pytest.fixture(scope="module")
def config(tiny) -> Config:
    """A million steps."""
    return tiny("trainer.max_steps=1e6", "run_dir=runs/w")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Callable[[], str]]]:
    """terminal(columns=80): standard output and error are one of that width; what it gives tells what was written."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    streams: list[io.TextIOWrapper] = []

    def terminal(columns: int = 80, encoding: str = "utf-8") -> Callable[[], str]:
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        stream = io.TextIOWrapper(os.fdopen(side, "wb", 0), encoding, write_through=True)
        streams.extend([stream, os.fdopen(main, "rb", 0)])  # pyright: ignore
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", stream)
        os.set_blocking(main, False)

        def written() -> str:
            pieces = []
            with suppress(BlockingIOError):
                while True:
                    pieces.append(os.read(main, 4096))
            return b"".join(pieces).decode(encoding)

        return written

    yield terminal
    for stream in streams:
        stream.close()


def returns(*values: float) -> Returns:
    some = Returns()
    for value in values:
        some.add(value)
    return some


def shown(written: Callable[[], str], config: Config, env_steps: int, updates: int, some: Returns) -> str:
    """The bar as it stands in its line."""
    bar = Bar(config, seconds=0.0)
    bar.show(env_steps, updates, Speeds(), some)
    text = written()
    assert bar.bar is not None
    bar.bar.close()
    written()
    return text.split("\r")[-1].strip("\n")


def plain(text: str) -> str:
    return re.sub(r"\033\[[\d;]*m", "", text)


def test_a_sparkline_has_a_bar_for_each_share_of_the_values_from_lowest_to_highest():
    assert sparkline([0.0, 1.0, 7.0], 8) == BARS[0] + BARS[1] + BARS[7]
    assert sparkline([0.0, 2.0, 7.0, 9.0], 2) == BARS[0] + BARS[7], "means 1 and 8"
    assert sparkline([5.0, 5.0], 8) == BARS[3] * 2 and sparkline([], 8) == ""


def test_returns_of_a_long_run_take_little_memory_and_keep_their_means():
    some = returns(*(float(index) for index in range(5 * MOST_RETURNS)))
    assert len(some.means) < MOST_RETURNS and some.last == 5 * MOST_RETURNS - 1
    assert some.means[0] == sum(range(some.each)) / some.each
    assert some.sparkline(8) == BARS


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120])
def test_the_bar_fits_its_line_and_says_as_much_as_there_is_room_for(config, terminal, columns):
    written = terminal(columns)
    line = plain(shown(written, config, 370_000, 1000, returns(*(float(index) for index in range(1, 1000)))))
    assert len(line) < columns and line.startswith(" 37% ") and line.endswith("h left")
    least = {"999": 40, BARS[0]: 40, "370k/1M": 60, "61.2 steps/s": 60, "4.2 updates/s": 80}
    assert {words: words in line for words in least} == {words: columns >= width for words, width in least.items()}


def test_before_the_first_update_the_bar_says_what_happens(config, terminal):
    written = terminal()
    assert plain(shown(written, config, 500, 0, Returns())).endswith(" 500/1M  random actions")


def test_the_last_bar_is_full_and_says_where_the_run_ended(config, terminal):
    written = terminal()
    Bar(config).close(1_000_000, 3000, returns(1.0, 5.0))
    assert re.search(rf"100% █+ 1M/1M  {BARS[0]}{BARS[7]} 5\s*$", plain(written()))


def test_a_terminal_that_cannot_write_blocks_has_none(config, terminal):
    written = terminal(80, "ascii")
    assert "600/1M  2  61.2 steps/s" in plain(shown(written, config, 600, 5, returns(1.0, 2.0)))


@pytest.mark.parametrize(
    ("name", "value", "has_colors"), [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("A", "", True)]
)
def test_colours_are_left_out_where_they_are_not_wanted(config, terminal, monkeypatch, name, value, has_colors):
    written = terminal()
    monkeypatch.setenv(name, value)
    bar = shown(written, config, 600, 5, returns(1.0, 2.0))
    print(fitted(BANNER))
    for text in (bar, written()):
        assert (re.search(r"\033\[[1-9]", text) is not None) == has_colors


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_banner_fits_one_screen_and_keeps_what_matters(terminal, columns):
    written = terminal(columns)
    print(fitted(BANNER))
    lines = plain(written()).replace("\r", "").splitlines()
    assert len(lines) <= 22 and max(map(len, lines)) <= columns
    keys = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert {"run_dir", "env", "max_steps", "train_ratio"} <= set(keys)
    assert ("overlap" in keys) == (columns >= 80), "what matters least goes first"


def test_on_a_pipe_everything_is_plain_lines(config, capsys):
    assert fitted(BANNER) == BANNER
    lines = Lines(config, seconds=0.0)
    lines.show(500_000, 5, Speeds(), returns(1.0, 2.0))
    lines.close(1_000_000, 10, returns(3.0))
    assert capsys.readouterr().out.splitlines() == [
        "500,000 of 1,000,000 env steps (50.0%), 5 updates, last return 2.0, 61.2 env steps/s, 4.20 updates/s, "
        "2.3 h left",
        "1,000,000 of 1,000,000 env steps (100.0%), 10 updates, last return 3.0",
    ]


def test_counts_are_short_and_never_rounded_up():
    assert [short(steps) for steps in (0, 9999, 12_345, 199_999, 1_000_000, 1_250_000)] == [
        "0", "9999", "12.3k", "199k", "1M", "1.2M"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "directory",
    [
        "runs/walker",
        "runs/2026-11-30_16-14-40",
        "my runs/a'b",
        "a=b,c",
        "12",
        "1e3",
        "null",
        "[a]",
        "end\\",
        "$HOME #",
        "~x",
    ],
)
def test_paths_survive_the_shell_and_hydra(directory):
    (typed,) = shlex.split(quoted([word("run_dir", directory)]))
    override = OverridesParser.create().parse_override(typed)
    assert override.key_or_group == "run_dir"
    value = override.value()
    assert getattr(value, "text", value) == directory


def test_the_four_commands_name_the_run_and_go_on_with_the_same_words(config, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    config = copy.deepcopy(config)
    config.trainer.max_steps = 1200
    typed = ["env=walker_walk", "run_dir=old", "env.kwargs={a: 1}", "trainer.max_steps=1200"]
    assert next_commands(config, typed, is_finished=False).splitlines() == [
        "  evaluate  python scripts/evaluate.py checkpoint=runs/w",
        "  dream     python scripts/dream.py checkpoint=runs/w",
        "  report    python scripts/report.py run=runs/w",
        "  go on     python train.py env=walker_walk 'env.kwargs={a: 1}' trainer.max_steps=1200 run_dir=runs/w",
    ]
    longer = next_commands(config, typed, is_finished=True).splitlines()[-1]
    assert longer.endswith("train.py env=walker_walk 'env.kwargs={a: 1}' run_dir=runs/w trainer.max_steps=2400")
    config.env.class_ = "my_robot.Reach"
    monkeypatch.setattr(sys, "argv", ["../dreamer/train.py"])
    first = next_commands(config, typed, is_finished=False).splitlines()[0]
    assert first == (
        f"  evaluate  python {Path('../dreamer/scripts/evaluate.py')} checkpoint=runs/w env.class=my_robot.Reach"
    )


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80])
def test_a_run_in_a_terminal_begins_on_one_screen_and_ends_with_four_commands(tmp_path, columns):
    """A real process; what it names at its end is there."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    words = ["debug=tiny", "env=dummy_counter", "env.obs=proprio", "trainer.threads=1", "trainer.eval_every=0"]
    words += ["env.action_repeat=4", "trainer.max_steps=480"]
    command = [sys.executable, str(ROOT / "train.py"), *words, "run_dir=my run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        pieces = []
        with suppress(OSError):  # the end of a terminal
            while piece := os.read(main, 4096):
                pieces.append(piece)
    assert process.returncode == 0
    text = plain(b"".join(pieces).decode()).replace("\r\n", "\n")
    (tmp_path / "seen.txt").write_text(text)
    before, _, after = text.partition("\r")
    assert len(before.splitlines()) <= 24 and max(map(len, before.splitlines())) <= columns
    assert all(len(line) <= columns for line in re.split(r"[\r\n]", text.partition("Finished")[0]))
    commands = after.partition("Finished at environment step 480")[2].splitlines()[-4:]
    assert [line.split()[0] for line in commands] == ["evaluate", "dream", "report", "go"]
    assert [shlex.split(line)[-1] for line in commands[:3]] == [
        "checkpoint='my run'", "checkpoint='my run'", "run='my run'"
    ]  # fmt: skip
    assert "run_dir='my run'" in shlex.split(commands[3]) and "trainer.max_steps=960" in commands[3]
