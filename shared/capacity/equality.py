"""Which creates are equal: those that the upstream's list of jobs cannot tell apart."""

from hashlib import sha256

from shared.config.catalog import Deployment
from shared.media.video import Video


def ask_of(video: Video) -> str:
    """What lists of jobs show of a create, as two hashes: with its prompt, and without."""
    return f"{_hash(video, video.prompt)} {_hash(video, '')}"


def shown(deployment: Deployment, video_id: str, ask: str) -> str:
    """What the deployment's list shows of a video's create, whose `ask_of` is `ask`. If it is the
    same of two creates, they are equal. If jobs carry a mark of their video, or are never searched
    for, no two are.
    """
    if deployment.mark(video_id) or not deployment.dialect.lists:
        return video_id
    with_prompt, _, without = ask.partition(" ")
    return without if deployment.known_by_size else with_prompt


def _hash(video: Video, prompt: str) -> str:
    asked = f"{video.source_upstream_id} {video.seconds} {video.size} {prompt}"
    return sha256(asked.encode()).hexdigest()[:24]
