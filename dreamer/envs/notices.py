"""What environments have to say to the user: each line once in a run, wherever they live."""

from __future__ import annotations


class Notices:
    """Lines that were said, in their order. In the process of a single environment they are kept, for its parent."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_silent = False

    def say_once(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)
            if not self.is_silent:
                print(line, flush=True)


NOTICES = Notices()
"""Of this process."""
