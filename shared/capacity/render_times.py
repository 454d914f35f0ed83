"""How long videos usually take, per model and length, learned from finished ones.

They are the row `usual` of the model's partition of the table `pools`. Only the times of looks and
the estimated start of waiting videos depend on them.
"""

import msgspec

from shared.capacity.poll_schedule import Usual, learn
from shared.clock import Clock
from shared.storage.tables import Insert, Replace, Row, Table, WriteConflict, partition_of

_ROW = "usual"
_FRESH, _FRESH_OF_MANY = 60.0, 600.0  # seconds: an estimate of many jobs changes slowly
_ENOUGH = 20  # jobs
_ONE_IN = 4  # after so many, every fourth job is learned from


class RenderTimes(msgspec.Struct):
    """The estimates, as one instance has read them."""

    table: Table
    clock: Clock
    first_guess: float  # seconds that a video takes, until something has been learned
    _seen: int = 0
    _known: dict[str, tuple[float, dict[int, Usual]]] = msgspec.field(default_factory=dict)

    async def of(self, model_name: str, seconds: int) -> Usual:
        """The estimate for a model and a length in seconds; read again every minute, and every ten
        once enough jobs are known.
        """
        now = self.clock.now().timestamp()
        read_at, known = self._known.get(model_name, (0.0, {}))
        fresh = _FRESH_OF_MANY if known.get(seconds, self._guess()).jobs >= _ENOUGH else _FRESH
        if now - read_at > fresh:
            known = _decode(await self.table.get(partition_of(model_name), _ROW))
            self._known[model_name] = (now, known)
        return known.get(seconds, self._guess())

    def _guess(self) -> Usual:
        return Usual(self.first_guess, self.first_guess / 2)

    async def learn(self, model_name: str, seconds: int, took: float) -> None:
        """Add a finished video's time, `took` seconds, to the estimate. Once enough jobs are known,
        only one in four is added. A write that conflicts is not repeated: one time more or less
        changes little.
        """
        usual = await self.of(model_name, seconds)
        self._seen += 1
        if usual.jobs >= _ENOUGH and self._seen % _ONE_IN:
            return
        row = await self.table.get(partition_of(model_name), _ROW)
        known = _decode(row)
        known[seconds] = learn(known.get(seconds, self._guess()), took)
        values = {"lengths": msgspec.json.encode({str(each): usual for each, usual in known.items()}).decode()}
        try:
            await self.table.commit(partition_of(model_name), Insert(_ROW, values) if row is None else Replace(row, values))
        except WriteConflict:
            return
        self._known[model_name] = (self.clock.now().timestamp(), known)


def _decode(row: Row | None) -> dict[int, Usual]:
    known = msgspec.json.decode(row.values["lengths"], type=dict[str, Usual]) if row else {}
    return {int(seconds): usual for seconds, usual in known.items()}
