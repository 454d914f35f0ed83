"""What a crash run comes to."""

from dataclasses import dataclass, field

from tests.trials.crash.points import Passed


@dataclass
class Result:
    """What a run came to. `wrong` says what is not as promised; `passed` are the points, the last
    one before each death too.
    """

    died: int = 0
    completed: int = 0
    failed: int = 0
    most_creates: int = 0  # of any video
    wrong: list[str] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)

    def expect(self, so: bool, otherwise: str) -> None:
        if not so:
            self.wrong.append(otherwise)
