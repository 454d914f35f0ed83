"""Orchestrations for the sweep: a test says which are alive, and reads which were started."""


class Engine:
    """Implements `shared.videos.orchestration.Orchestrations`.

    `living` are alive; `asked` are those that were asked about, and `started` those that were
    started.
    """

    def __init__(self, *living: str) -> None:
        self.living = set(living)
        self.started: list[str] = []
        self.asked: list[str] = []

    async def start(self, video_id: str) -> None:
        self.started.append(video_id)
        self.living.add(video_id)

    async def alive(self, video_id: str) -> bool:
        self.asked.append(video_id)
        return video_id in self.living
