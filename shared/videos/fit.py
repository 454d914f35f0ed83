"""Whether a listed job can be the one that an attempt made. Pure.

A wrong yes gives a caller somebody else's video; a wrong no pays for a second job. So there are
answers between the two for a job that cannot be told apart for certain.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Set
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from shared.media.video import Video
from shared.upstream.jobs import Job, Listing
from shared.videos.attempt import Attempt

LOOKBACK = timedelta(seconds=300)  # the most that the upstream's clock may differ, if nothing is known of it

_CLOCK_SKEW = timedelta(seconds=15)  # an ordinary difference; times are whole seconds
_DOUBT = timedelta(seconds=60)  # the most, if its answers have a `Date`, which may be another server's
_ALIKE = 0.8  # the share of the longer prompt's words that similar prompts have in common


class Fit(IntEnum):
    """How well a job fits an attempt; of two tests the lower result counts."""

    NO = 0
    NEAR = 1  # similar, as a server lists it that alters what it was sent
    UNPROVEN = 2  # nothing speaks against it, but some of its fields are missing
    EXACT = 3
    CERTAIN = 4  # it has the mark that only this video's job was made with


def fit(job: Job, attempt: Attempt, listed: Listing, neighbours: Set[str]) -> Fit:
    """How well a listed job fits an attempt. `neighbours` are the names under which the upstream
    may list jobs of the resource's other deployments.
    """
    if attempt.mark is not None:
        return Fit.CERTAIN if job.model == attempt.mark else Fit.NO
    return min(
        made_since(job.created_at, attempt.noted_at, listed.ahead),
        _source_fits(job, attempt.video),
        _wish_fits(job, attempt),
        _name_fits(job, attempt, neighbours),
    )


def made_since(made_at: float | None, noted_at: datetime, ahead: float | None) -> Fit:
    """Whether a job was made since the attempt was recorded, by a clock that is `ahead` of ours by
    so many seconds (None if that is unknown).
    """
    if made_at is None:
        return Fit.UNPROVEN
    told = datetime.fromtimestamp(made_at, UTC)
    ours = told - timedelta(seconds=ahead or 0.0)
    if ours >= noted_at - _CLOCK_SKEW:
        return Fit.EXACT
    doubt = LOOKBACK if ahead is None else _DOUBT
    return Fit.UNPROVEN if max(told, ours) >= noted_at - doubt else Fit.NO


def _source_fits(job: Job, video: Video) -> Fit:
    """A remix names its source, unless the list leaves that out; any other job names none."""
    if job.remixed_from_video_id == video.source_upstream_id:
        return Fit.EXACT
    return Fit.UNPROVEN if job.remixed_from_video_id is None else Fit.NO


def _wish_fits(job: Job, attempt: Attempt) -> Fit:
    """Compares what was asked for. A prompt that does not resemble ours is of another job. Any
    smaller difference may be the server's notation of what we sent, unless the server is known to
    keep the words that it was sent.
    """
    video = attempt.video
    if job.prompt is not None and not resembles(job.prompt, video.prompt):
        return Fit.NO
    asked = (video.prompt, str(video.seconds), video.size)
    told = (job.prompt, job.length, job.size)
    differs = any(each is not None and each != wanted for each, wanted in zip(told, asked, strict=True))
    if differs or _was_made_otherwise(job, video):
        return Fit.NO if attempt.deployment.dialect.keeps_words else Fit.NEAR
    decisive = told[1:] if attempt.deployment.known_by_size else told
    return Fit.UNPROVEN if None in decisive else Fit.EXACT


def _was_made_otherwise(job: Job, video: Video) -> bool:
    """Whether an unfinished job has other parameters than were asked for. A completed one shows
    what it has made, which may differ.
    """
    both = job.told.keys() & video.asked.keys()
    return not job.completed and any(job.told[name] != video.asked[name] for name in both)


def _name_fits(job: Job, attempt: Attempt, neighbours: Set[str]) -> Fit:
    """A job under another model name most likely belongs to another deployment, but may be ours
    under a name that the configuration does not know.
    """
    deployment = attempt.deployment
    known = deployment.base_model is not None and job.model is not None
    if known and job.model not in (deployment.model, deployment.base_model):
        return Fit.UNPROVEN
    return Fit.UNPROVEN if job.model in neighbours else Fit.EXACT


def resembles(told: str, asked: str) -> bool:
    """Whether a listed prompt can be the one that was sent: trimmed, cut off, cleaned or
    escaped.
    """
    one, other = _words(told), _words(asked)
    if not other:
        return not one
    shorter, longer = sorted((" ".join(one), " ".join(other)), key=len)
    if longer.startswith(shorter):
        return True
    shared = sum((Counter(one) & Counter(other)).values())
    return shared >= _ALIKE * max(len(one), len(other))


def _words(text: str) -> list[str]:
    """The words of a text without accents, case, punctuation and HTML escapes."""
    plain = unicodedata.normalize("NFKD", html.unescape(text)).casefold()
    return re.findall(r"\w+", "".join(each for each in plain if not unicodedata.combining(each)))
