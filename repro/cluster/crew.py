"""Deals items to workers on a cluster, replaces workers that die, and finds the items that kill them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from zoo.errors import EvaluationError, ZooError
from zoo.files.progress import say
from zoo.repro.cluster.actor import Started, Worker, software
from zoo.repro.cluster.connection import choose_share, connected, describe_room, no_room, room_for
from zoo.repro.cluster.workers import LOCAL, Workers

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOOK_EVERY_S = 2.0
_SAY_EVERY_S = 30.0
_STOP_WITHIN_S = 5.0


@dataclass(frozen=True)
class Dealt(Generic[Item, Result]):
    """An item and what a worker made of it, or why it was given up."""

    item: Item
    result: Result | None
    failure: ZooError | None = None


@dataclass(eq=False)
class _Actor:
    """A worker that is ready, and how many items it has."""

    handle: Any
    node: str
    items: int = 0
    is_alone: bool = False  # with its item: nothing else would be suspected, were it to die


@dataclass
class _Try(Generic[Item]):
    """An item, and how often it was tried."""

    item: Item
    failures: int = 0
    failed_on: set[_Actor] = field(default_factory=set)


class Crew(Generic[Item, Result]):
    """Workers on a cluster that items are dealt to; a context manager.

    Each worker is a process that calls `make_worker()` once, and what that returns for each item. An item is
    worked on once, and again only where its worker died or failed: then alone in its process, up to
    `Workers.attempts` times, so that one that kills its process is found and no other one is blamed.

    Attributes:
      about: the attribute `about` of what `make_worker` returned, from the first worker that was ready.
      share: what each worker has.
    """

    def __init__(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        workers: Workers,
        *,
        at_once: int = 1,
        most: int | None = None,
    ) -> None:
        """Connects to the cluster, and waits for the first worker.

        Args:
          make_worker: is pickled by name, as what it returns takes items; both are called on the cluster. It
            may raise a ZooError.
          workers: how many, and where.
          at_once: so many items at most a worker has at the same time, in as many threads.
          most: how many items there will be; None where that is not known.

        Raises:
          ZooError: there is no cluster, no room on it, or no worker could be made; one line says why.
        """
        self._make_worker, self._workers, self._at_once = make_worker, workers, at_once
        self.about: Any = None
        self._ready: list[_Actor] = []
        self._starting: dict[Any, Any] = {}  # reference of a start -> handle
        self._running: dict[Any, tuple[_Actor, _Try[Item]]] = {}
        self._again: deque[_Try[Item]] = deque()
        self._stopping: list[Any] = []
        self._failed_starts = 0
        self._nodes: set[str] = set()
        self._stack = ExitStack()
        self._has_begun = False
        self._lacking_since = self._said = time.monotonic()
        try:
            self._stack.enter_context(connected(workers))
            import ray

            self._ray = ray
            self.share = choose_share(workers, most)
            self._software = software()
            self._remote: Any = ray.remote(Worker).options(
                num_cpus=self.share.cpus,
                num_gpus=self.share.gpus,
                max_concurrency=at_once,
                scheduling_strategy="SPREAD",
            )
            for _ in range(self.share.actors):
                self._start_one()
            # One that waits for its place is what makes a cluster grow that can.
            while not self._ready or room_for(self.share) < self.share.actors:
                self._await_one()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Crew[Item, Result]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers, and the Ray that was started here."""
        for actor in self._ready:
            self._end(actor.handle, gently=not actor.items)
        for handle in self._starting.values():
            self._end(handle)
        self._starting, self._running, self._ready = {}, {}, []
        if self._stopping:
            with suppress(Exception):
                self._ray.wait(self._stopping, num_returns=len(self._stopping), timeout=_STOP_WITHIN_S)
            self._stopping = []
        self._stack.close()

    @property
    def ready(self) -> int:
        """How many workers are ready."""
        return len(self._ready)

    def recorded(self) -> dict[str, Any]:
        """Returns what a run record says of the workers."""
        return {**asdict(self.share), "threads": self.share.threads, "nodes": len(self._nodes)}

    def deal(self, items: Sequence[Item]) -> Iterator[Dealt[Item, Result]]:
        """Yields each item with its result or failure, as they are done; to be called once.

        Few results are held here at a time: a worker gets its next item when its last result was taken. It
        ends when nothing is left for it.

        Raises:
          EvaluationError: no worker is left.
          Exception: what a worker raised that is no ZooError.
        """
        assert not self._has_begun, "a crew deals once: its workers end with the last item"
        self._has_begun = True
        waiting = deque(items)
        while True:
            self._feed(waiting)
            self._release(len(waiting))
            if not (waiting or self._again or self._running):
                return
            done = self._await_one()
            if done is not None:
                yield done

    # ---- what goes to whom ----

    def _feed(self, waiting: deque[Item]) -> None:
        """Gives items to the workers that have room; the less they have, the earlier."""
        for actor in sorted(self._ready, key=lambda actor: actor.items):
            while (tried := self._next_for(actor, waiting)) is not None:
                ref = actor.handle.work.remote(tried.item)
                actor.items += 1
                self._running[ref] = actor, tried

    def _next_for(self, actor: _Actor, waiting: deque[Item]) -> _Try[Item] | None:
        if self._again:
            # All other items wait until those that are tried again have a process of their own.
            if actor.items:
                return None
            for tried in self._again:
                if actor not in tried.failed_on or not (self._starting or set(self._ready) - tried.failed_on):
                    self._again.remove(tried)
                    actor.is_alone = True
                    return tried
        if actor.items == 0:
            actor.is_alone = False
        left = len(waiting) + len(self._running)
        # At the end the last items are spread over all.
        at_once = min(self._at_once, max(1, -(-left // self.share.actors)))
        if not waiting or actor.is_alone or actor.items >= at_once:
            return None
        return _Try(waiting.popleft())

    # ---- what comes back ----

    def _await_one(self) -> Dealt[Item, Result] | None:
        """Waits for one result or start, and returns the result or final failure if it is one."""
        refs = [*self._running, *self._starting]
        done, _ = self._ray.wait(refs, num_returns=1, timeout=_LOOK_EVERY_S)
        if not done:
            self._check_patience()
            return None
        (ref,) = done
        if ref in self._starting:
            self._take_start(ref)
            return None
        actor, tried = self._running.pop(ref)
        actor.items -= 1
        errors = self._ray.exceptions
        try:
            return Dealt(tried.item, self._ray.get(ref))
        except errors.RayTaskError as error:
            if not isinstance(error.cause, ZooError):
                raise error.cause from None
            return self._failed(actor, tried, error.cause)
        except errors.RayActorError:
            self._replace(actor)
            return self._failed(actor, tried, EvaluationError("the process that worked on it died"))
        except errors.RayError as error:
            reason = str(error).partition("\n")[0]
            return self._failed(actor, tried, EvaluationError(f"its result was lost: {reason}"))

    def _failed(self, actor: _Actor, tried: _Try[Item], error: ZooError) -> Dealt[Item, Result] | None:
        tried.failures += 1
        tried.failed_on.add(actor)
        if tried.failures < self._workers.attempts:
            self._again.append(tried)
            # Another one, perhaps on another machine, in the place of one that was ended.
            if len(self._ready) + len(self._starting) < self.share.actors:
                self._start_one()
            return None
        failure = EvaluationError(
            f"{tried.item}: failed {tried.failures} times, last on {actor.node}: {error}"
        )
        return Dealt(tried.item, None, failure)

    # ---- workers come and go ----

    def _end(self, handle: Any, *, gently: bool = False) -> None:
        """Ends a worker; gently so that it removes its temporary files."""
        with suppress(Exception):
            if gently:
                self._stopping.append(handle.stop.remote())
            else:
                self._ray.kill(handle)

    def _release(self, waiting: int) -> None:
        """Ends workers for which nothing is left, so that others have their place."""
        if waiting or self._again:
            return
        for actor in [actor for actor in self._ready if not actor.items]:
            self._ready.remove(actor)
            self._end(actor.handle, gently=True)
        for ref in list(self._starting):
            self._end(self._starting.pop(ref))

    def _start_one(self) -> None:
        handle = self._remote.remote(self.share.threads, self.share.gpus)
        self._starting[handle.start.remote(self._software, self._make_worker)] = handle

    def _replace(self, actor: _Actor) -> None:
        if actor in self._ready:
            self._end(actor.handle)
            say(f"a worker on {actor.node} died; another one takes its place")
            self._ready.remove(actor)
            self._start_one()

    def _take_start(self, ref: Any) -> None:
        handle = self._starting.pop(ref)
        errors = self._ray.exceptions
        try:
            started: Started = self._ray.get(ref)
        except errors.RayTaskError as error:
            failure = error.cause
            if not isinstance(failure, ZooError):
                failure = EvaluationError(f"a worker failed to start: {failure!r}")
        except errors.RayError as error:
            reason = " ".join(str(error).split())
            failure = EvaluationError(f"a worker died while it started: {reason[-300:]}")
        else:
            if not self._nodes:
                self.about = started.about
            self._failed_starts = 0
            self._nodes.add(started.node_id)
            self._ready.append(_Actor(handle, started.node))
            return
        self._end(handle)
        self._failed_starts += 1
        if self._failed_starts >= self._workers.attempts:
            raise failure
        say(f"{failure}; it is tried again")
        self._start_one()

    def _check_patience(self) -> None:
        """Says now and then what is awaited.

        Raises:
          EvaluationError: the cluster has no room for long; where others use it, it is waited for.
        """
        now, room = time.monotonic(), room_for(self.share)
        if room >= self.share.actors or (self._has_begun and (room or self._ready)):
            self._lacking_since = now
        patience = 0.0 if self._workers.address == LOCAL else self._workers.patience_s
        if (waited := now - self._lacking_since) > patience:
            raise EvaluationError(no_room(self.share))
        if now - self._said > _SAY_EVERY_S and (waited or not self._ready):
            self._said = now
            until = f", for {patience - waited:.0f} s at most" if waited else ""
            say(f"--ray: wanted {self.share}, found {describe_room(self.share)}; waiting{until}")


def deal(
    items: Sequence[Item],
    make_worker: Callable[[], Callable[[Item], Result]],
    workers: Workers,
    *,
    at_once: int = 1,
) -> Iterator[Dealt[Item, Result]]:
    """Deals items to workers that are made for them alone, as `Crew.deal`; close it to stop early."""
    with Crew(make_worker, workers, at_once=at_once, most=len(items)) as crew:
        yield from crew.deal(items)
