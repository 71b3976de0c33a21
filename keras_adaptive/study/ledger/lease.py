"""The lease of a study: it lets one driver at a time write the study's runs.

MLflow has no transactions, and the clocks of two machines may differ. A claim is
therefore a tag of the experiment that only its driver writes. A driver holds the lease
once it has read, after writing its claim, that there is no other: of two drivers, the
later one to write sees the earlier one's claim. While several drivers only ask, the one
with the smallest token stays and the others withdraw. A driver proves that it lives by
a second tag that it changes every few seconds. Others compare what they see of it, not
times: a claim whose heartbeat did not change for the time of the lease, as measured by
the one who watches, is taken away. Its driver finds that out before it ends its next
run.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256

from keras_adaptive.errors import InputError, needs_extra
from keras_adaptive.study.ledger.connection import (
    SECONDS_BETWEEN_NOTES,
    UNREACHABLE,
    Tell,
)
from keras_adaptive.study.ledger.driver import Driver, this_driver
from keras_adaptive.study.ledger.waiting import Teller

with needs_extra("study"):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

LEASE_SECONDS = "KERAS_ADAPTIVE_LEASE_SECONDS"
DEFAULT_SECONDS = 60.0
BEATS_PER_LEASE = 6
"""A driver changes its heartbeat so often in the time of its lease."""

LOOKS_PER_BEAT = 8
"""So often does another driver look, in the time between two heartbeats."""

LONGEST_JOIN = 2.0
"""Seconds that the end of a study waits for a heartbeat on its way."""

CLAIM, HEARTBEAT = "lease.", "heartbeat."
LONGEST_TITLE = 200

_held: set[str] = set()
"""The tokens of the leases that this process holds."""


class LeaseLost(InputError):
    """Another driver has taken the study over."""


@dataclass(frozen=True)
class Claim:
    """A driver's claim to write the runs of a study.

    Args:
        token: Names the claim.
        study: Title of the study.
        scope: Digests of what the study works on; two claims that share one conflict.
        seconds: Time of the lease.
        driver: The process.
        held: Whether the driver holds the lease; otherwise, it asks for it.
        heartbeat: What the driver's heartbeat says at present.
    """

    token: str
    study: str
    scope: tuple[str, ...]
    seconds: float
    driver: Driver
    held: bool
    heartbeat: str

    def age(self) -> str:
        """Returns the age of the heartbeat in words, if this clock can tell."""
        with suppress(ValueError):
            seen = datetime.fromisoformat(self.heartbeat.partition(" ")[0])
            seconds = (datetime.now(UTC) - seen).total_seconds()
            return f"{max(0.0, seconds):.0f} s ago"
        return "not seen yet"


def lease_seconds() -> float:
    """Returns the time of a lease, as the environment sets it.

    Raises:
        InputError: If it is not a number above 0.
    """
    text = os.environ.get(LEASE_SECONDS, str(DEFAULT_SECONDS))
    with suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise InputError(
        f"{LEASE_SECONDS} is {text!r}. Expected a number of seconds above 0."
    )


class Lease:
    """The right to write the runs of a study, while it is held.

    Studies of one experiment share runs of equal workloads, so two studies with a
    workload in common exclude each other.

    Args:
        client: The client of MLflow.
        experiment_id: MLflow's id of the experiment.
        study: Title of the study.
        workloads: Names of its workloads.
        tell: Takes a line about what goes on, such as waiting.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        study: str,
        workloads: Sequence[str],
        tell: Teller,
    ) -> None:
        """Makes the claim, without writing it."""
        self._client = client
        self._experiment_id = experiment_id
        self._tell = tell
        self._beats = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost = False
        self.store_is_gone = False
        self._claim = Claim(
            token=uuid.uuid4().hex,
            study=study[:LONGEST_TITLE],
            scope=tuple(_digest(each) for each in (study, *workloads)),
            seconds=lease_seconds(),
            driver=this_driver(),
            held=False,
            heartbeat="",
        )

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """Holds the lease for the length of a block.

        Raises:
            InputError: If another driver holds it.
        """
        token = self._claim.token
        _held.add(token)
        try:
            self._take()
            self._thread = threading.Thread(
                target=self._keep_beating, name="keras-adaptive-heartbeat", daemon=True
            )
            self._thread.start()
            yield self
        finally:
            self._ended.set()
            if self._thread is not None:
                self._thread.join(timeout=min(self._interval, LONGEST_JOIN))
            if not self.store_is_gone:
                with self._tell.waiting(), suppress(*UNREACHABLE):
                    self._remove(token)
            _held.discard(token)

    def verify(self) -> None:
        """Reads whether the lease is still held.

        Raises:
            LeaseLost: If another driver has taken it.
        """
        if not self.lost and self._claim.token not in self._claims():
            self.lost = True
        self.check()

    def check(self) -> None:
        """Raises `LeaseLost` if the lease is known to be lost, without reading."""
        if self.lost:
            raise LeaseLost(
                f"The study {self._claim.study!r} was taken over by another process, "
                f"since nothing was heard of this one ({self._claim.driver}) for "
                f"{self._claim.seconds:g} s. It has stopped. Its runs up to here are "
                "kept; run the study again when the other process is done, to see the "
                "results."
            )

    @property
    def _interval(self) -> float:
        return self._claim.seconds / BEATS_PER_LEASE

    def _take(self) -> None:
        """Claims the lease and waits until it is certain whose it is."""
        self._write(held=False)
        watch = _Watch(self._tell)
        self._beat()
        while others := self._others():
            for other in others:
                if self._is_dead(other):
                    self._remove(other.token)
                elif self._must_yield_to(other, watch):
                    raise InputError(_refusal(other))
                elif watch.has_expired(other):
                    self._remove(other.token)
                else:
                    self._beat()
                    self._ended.wait(self._interval / LOOKS_PER_BEAT)
        self._write(held=True)
        # A claim that was removed meanwhile has just been written again.
        if taken := [other for other in self._others() if other.held]:
            raise InputError(_refusal(taken[0]))
        self._sweep()

    def _sweep(self) -> None:
        """Removes heartbeats that a driver wrote after its claim was taken away."""
        tags = self._client.get_experiment(self._experiment_id).tags
        for tag in tags:
            token = tag.removeprefix(HEARTBEAT)
            if token != tag and CLAIM + token not in tags:
                self._remove(token)

    def _is_dead(self, other: Claim) -> bool:
        """Says whether it is proven that another claim's driver has ended."""
        if other.driver == self._claim.driver:
            return other.token not in _held
        return other.driver.has_ended()

    def _must_yield_to(self, other: Claim, watch: _Watch) -> bool:
        """Says whether another driver lives and is before this one."""
        machine = self._claim.driver.machine
        seen_here = bool(machine) and other.driver.machine == machine
        lives = watch.has_changed(other) or seen_here
        return lives and (other.held or other.token < self._claim.token)

    def _others(self) -> list[Claim]:
        """Returns the claims that conflict with this one."""
        scope = set(self._claim.scope)
        return [
            claim
            for token, claim in self._claims().items()
            if token != self._claim.token and scope & set(claim.scope)
        ]

    def _claims(self) -> dict[str, Claim]:
        tags = self._client.get_experiment(self._experiment_id).tags
        return {claim.token: claim for claim in _read(tags)}

    def _write(self, held: bool) -> None:
        text = asdict(self._claim) | {"held": held}
        del text["token"], text["heartbeat"]
        self._set(CLAIM + self._claim.token, json.dumps(text))

    def _beat(self) -> None:
        self._beats += 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._set(HEARTBEAT + self._claim.token, f"{now} ({self._beats})")

    def _keep_beating(self) -> None:
        while not self._ended.wait(self._interval):
            with suppress(*UNREACHABLE):
                if self._claim.token not in self._claims():
                    self.lost = True
                    return
                self._beat()

    def _set(self, tag: str, value: str) -> None:
        self._client.set_experiment_tag(self._experiment_id, tag, value)

    def _remove(self, token: str) -> None:
        for tag in (CLAIM + token, HEARTBEAT + token):
            try:
                self._client.delete_experiment_tag(self._experiment_id, tag)
            except MlflowException:  # gone already, or a server that deletes no tags
                tags = self._client.get_experiment(self._experiment_id).tags
                if tags.get(tag):
                    self._set(tag, "")


class _Watch:
    """What this process has seen of other drivers' heartbeats, by its own clock."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._first: dict[str, str] = {}
        self._last: dict[str, str] = {}
        self._since: dict[str, float] = {}
        self._noted = -math.inf

    def has_changed(self, claim: Claim) -> bool:
        """Says whether the heartbeat has changed since it was first seen."""
        return self._first.setdefault(claim.token, claim.heartbeat) != claim.heartbeat

    def has_expired(self, claim: Claim) -> bool:
        """Says whether the heartbeat did not change for the time of the lease."""
        now = time.monotonic()
        if self._last.get(claim.token) != claim.heartbeat:
            self._last[claim.token], self._since[claim.token] = claim.heartbeat, now
        left = claim.seconds - (now - self._since[claim.token])
        if left > 0 and now - self._noted >= SECONDS_BETWEEN_NOTES:
            self._noted = now
            self._tell(
                f"{claim.study!r} is open by {claim.driver}. Waiting up to "
                f"{left:.0f} s to see whether that is still running."
            )
        return left <= 0


def _refusal(claim: Claim) -> str:
    return (
        f"The study {claim.study!r} is being run already, by {claim.driver} (heartbeat "
        f"{claim.age()}). Wait until it is done, or end it there; a study whose driver "
        f"has died is free {claim.seconds:g} s later."
    )


def _digest(name: str) -> str:
    return sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _read(tags: Mapping[str, str]) -> Iterator[Claim]:
    """Yields the claims among the tags of an experiment."""
    for tag, text in tags.items():
        if tag.startswith(CLAIM) and text:
            token = tag.removeprefix(CLAIM)
            claim = json.loads(text)
            yield Claim(
                **claim
                | {
                    "token": token,
                    "scope": tuple(claim["scope"]),
                    "driver": Driver(**claim["driver"]),
                    "heartbeat": tags.get(HEARTBEAT + token, ""),
                }
            )
