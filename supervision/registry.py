"""Names for actors: who is registered, under which key, with which value (Elixir's Registry)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from supervision.actor import Actor
from supervision.child import option_of
from supervision.errors import ActorNotFoundError, ActorStoppedError, NameTakenError
from supervision.reasons import NOPROC, NORMAL, ExitReason
from supervision.ref import cell_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable

    from supervision.child import Start
    from supervision.ref import ActorRef, Down, Monitor

__all__ = ["Entry", "Keys", "Name", "Registry", "RegistryChange"]


class Keys(StrEnum):
    """How many actors may share a key."""

    UNIQUE = "unique"
    DUPLICATE = "duplicate"


@dataclass(slots=True)
class Entry:
    """One registration.

    Attributes:
        key: The key.
        ref: Who is registered.
        value: What it has put beside its name.
    """

    key: Hashable
    ref: ActorRef
    value: object


@dataclass(frozen=True, slots=True)
class RegistryChange:
    """What a listener of a registry hears.

    Attributes:
        registered: Whether the entry has come or gone.
        key: The key.
        ref: Who is, or was, registered.
    """

    registered: bool
    key: Hashable
    ref: ActorRef


class Registry:
    """Maps keys to living actors. Nothing in it suspends, so that it is never out of date.

    The entries of an actor go away at its end, before its supervisor or anybody else hears of that:
    whoever was told that an actor has ended can take its name. Keys of different types are
    different keys, so 1 and True and 1.0 do not collide.

    Attributes:
        kind: Whether several actors may register under the same key.
        meta: Anything that belongs to the registry as a whole.

    Example::

        registry = Registry()
        spec = ChildSpec("store", registry.via("store", Store))
        ...
        await registry.name("store").call("question")
    """

    def __init__(
        self,
        *,
        keys: Keys = Keys.UNIQUE,
        listeners: tuple[Callable[[RegistryChange], object], ...] = (),
    ) -> None:
        """Make an empty registry.

        Args:
            keys: Whether several actors may register under the same key.
            listeners: Called with each change, at once. What one raises goes to the loop's exception handler.

        Raises:
            SpecError: ``invalid_keys``.
        """
        self.kind = option_of(Keys, "invalid_keys", keys)
        self._listeners = listeners
        self._entries: dict[tuple[type, Hashable], dict[ActorRef, list[Entry]]] = {}
        self._locks: dict[tuple[type, Hashable], _Lock] = {}
        self.meta: dict[Hashable, object] = {}

    def __len__(self) -> int:
        """Count the entries."""
        return sum(len(entries) for owners in self._entries.values() for entries in owners.values())

    # Registering

    def register(self, key: Hashable, ref: ActorRef, value: object = None) -> None:
        """Register an actor; in a registry with duplicate keys as often as it likes.

        Args:
            key: The key.
            ref: The actor, usually one's own ref.
            value: Anything to keep beside it.

        Raises:
            NameTakenError: Keys are unique and a living actor has this one, be it the same.
            ActorStoppedError: The actor has ended.
        """
        if not ref.alive:
            raise ActorStoppedError(ref.path, NOPROC)
        slot = (type(key), key)
        owners = self._entries.setdefault(slot, {})
        if owners and self.kind is Keys.UNIQUE:
            raise NameTakenError(key, next(iter(owners)))
        owners.setdefault(ref, []).append(Entry(key, ref, value))
        ref.at_end((self, slot), lambda: self._drop(slot, ref))
        self._tell(RegistryChange(registered=True, key=key, ref=ref))

    def unregister(self, key: Hashable, ref: ActorRef) -> None:
        """Remove all entries of an actor under a key; harmless when there is none."""
        slot = (type(key), key)
        ref.not_at_end((self, slot))
        self._drop(slot, ref)

    def unregister_match(
        self, key: Hashable, ref: ActorRef, wanted: Callable[[Entry], bool]
    ) -> None:
        """Remove those entries of an actor under a key that a predicate wants."""
        slot = (type(key), key)
        entries = self._entries.get(slot, {}).get(ref, [])
        left = [entry for entry in entries if not wanted(entry)]
        if not left:
            self.unregister(key, ref)
            return
        for _ in range(len(entries) - len(left)):
            self._tell(RegistryChange(registered=False, key=key, ref=ref))
        entries[:] = left

    def via(self, key: Hashable, start: Start, value: object = None) -> Start:
        """Give a start function whose actor is registered before its `init` begins, in every life.

        When the key belongs to somebody else, the start fails with `AlreadyStartedError`. An actor of several
        names is started via each of them: ``via("a", via("b", start))``.

        Args:
            key: The key.
            start: The actor's own start function.
            value: Anything to keep beside it.
        """
        inner = start.claim if isinstance(start, _Via) else None

        def claim(ref: ActorRef) -> None:
            if inner is not None:
                inner(ref)
            self.register(key, ref, value)

        return _Via(start, claim)

    # Looking up

    def whereis(self, key: Hashable) -> ActorRef | None:
        """Give the actor with this key, the first of several; None when there is none."""
        for ref in self._entries.get((type(key), key), ()):
            return ref
        return None

    def name(self, key: Hashable) -> Name:
        """Give a name that can be used like a ref, now or later."""
        return Name(self, key)

    def lookup(self, key: Hashable) -> list[Entry]:
        """Give all entries under a key, in the order in which they came."""
        owners = self._entries.get((type(key), key), {})
        return [entry for entries in owners.values() for entry in entries]

    def keys(self, ref: ActorRef) -> list[Hashable]:
        """Give the keys of an actor, one for each of its entries."""
        return [entry.key for entry in self.select(lambda entry: entry.ref == ref)]

    def values(self, key: Hashable, ref: ActorRef) -> list[object]:
        """Give what an actor keeps under a key."""
        return [entry.value for entry in self.lookup(key) if entry.ref == ref]

    def select(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Give all entries that a predicate wants."""
        return [
            entry
            for owners in self._entries.values()
            for entries in owners.values()
            for entry in entries
            if wanted(entry)
        ]

    def count(self, wanted: Callable[[Entry], bool] | None = None) -> int:
        """Count the entries that a predicate wants; all without one."""
        return len(self) if wanted is None else len(self.select(wanted))

    def update_value(
        self, key: Hashable, ref: ActorRef, change: Callable[[object], object]
    ) -> tuple[object, object]:
        """Replace what an actor keeps under a key; gives the new and the old value.

        Raises:
            ActorNotFoundError: The actor is not registered under the key.
            TypeError: Keys are not unique.
        """
        if self.kind is not Keys.UNIQUE:
            raise TypeError(
                "update_value needs unique keys: with duplicate ones it is not clear which entry."
            )
        entries = [entry for entry in self.lookup(key) if entry.ref == ref]
        if not entries:
            raise ActorNotFoundError(key)
        entry = entries[0]
        old, entry.value = entry.value, change(entry.value)
        return entry.value, old

    def dispatch(self, key: Hashable, send: Callable[[list[Entry]], object]) -> None:
        """Call a function with all entries under a key; not at all when there is none."""
        entries = self.lookup(key)
        if entries:
            send(entries)

    @asynccontextmanager
    async def lock(self, key: Hashable) -> AsyncIterator[None]:
        """Hold a lock of this key, whether registered or not.

        Suspends while somebody else holds it.
        """
        slot = (type(key), key)
        lock = self._locks.setdefault(slot, _Lock())
        lock.users += 1
        try:
            async with lock.mutex:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                self._locks.pop(slot, None)

    def _drop(self, slot: tuple[type, Hashable], ref: ActorRef) -> None:
        owners = self._entries.get(slot)
        gone = None if owners is None else owners.pop(ref, None)
        if not owners:
            self._entries.pop(slot, None)
        for _ in gone or ():
            self._tell(RegistryChange(registered=False, key=slot[1], ref=ref))

    def _tell(self, change: RegistryChange) -> None:
        for listener in self._listeners:
            try:
                listener(change)
            except Exception as error:  # noqa: BLE001 - the author's; the entry has changed all the same
                cell_of(change.ref).runtime.report(f"a listener failed on {change!r}", error)


class _Via:
    """A start function whose actor takes a name."""

    __slots__ = ("claim", "start")

    def __init__(self, start: Start, claim: Callable[[ActorRef], object]) -> None:
        self.start = start
        self.claim = claim

    def __call__(self, *arguments: object) -> object:
        made = self.start(*arguments)
        actor = made[0] if isinstance(made, tuple) else made
        if not isinstance(actor, Actor):
            raise TypeError(f"via() names actors, but the start function gave {actor!r}")
        actor.claim = self.claim
        return made

    def __reduce__(self) -> tuple[object, ...]:
        """Be the bare start function in another process: the name is taken in this one."""
        return _bare, (self.start,)


def _bare(start: Start) -> Start:
    return start


class _Lock:
    __slots__ = ("mutex", "users")

    def __init__(self) -> None:
        self.mutex = asyncio.Lock()
        self.users = 0


class Name:
    """A key of a registry, used like a ref; whoever has the key at that moment is meant."""

    __slots__ = ("_key", "_registry")

    def __init__(self, registry: Registry, key: Hashable) -> None:
        """Name a key.

        Args:
            registry: The registry.
            key: The key.
        """
        self._registry = registry
        self._key = key

    def __repr__(self) -> str:
        """Show the key."""
        return f"<Name {self._key!r}>"

    @property
    def alive(self) -> bool:
        """Whether somebody has the name."""
        return self._registry.whereis(self._key) is not None

    @property
    def ref(self) -> ActorRef:
        """The actor that has the name now.

        Raises:
            ActorNotFoundError: Nobody has it.
        """
        ref = self._registry.whereis(self._key)
        if ref is None:
            raise ActorNotFoundError(self._key)
        return ref

    def cast(self, message: object) -> None:
        """Do `ActorRef.cast`; nothing happens when nobody has the name."""
        ref = self._registry.whereis(self._key)
        if ref is not None:
            ref.cast(message)

    def send(self, message: object) -> None:
        """Do `ActorRef.send`; nothing happens when nobody has the name."""
        ref = self._registry.whereis(self._key)
        if ref is not None:
            ref.send(message)

    async def push(self, message: object, timeout: float | None = None) -> None:
        """Do `ActorRef.push`.

        Raises:
            ActorNotFoundError: Nobody has the name.
        """
        await self.ref.push(message, timeout)

    def monitor(self, watcher: ActorRef | Callable[[Down], object]) -> Monitor:
        """Do `ActorRef.monitor`, of the life that has the name now.

        Raises:
            ActorNotFoundError: Nobody has the name.
        """
        return self.ref.monitor(watcher)

    async def call(self, request: object, timeout: float | None = 5.0) -> object:
        """Do `ActorRef.call`.

        Raises:
            ActorNotFoundError: Nobody has the name.
        """
        return await self.ref.call(request, timeout)

    async def stop(self, reason: ExitReason = NORMAL, timeout: float | None = None) -> None:
        """Do `ActorRef.stop`.

        Raises:
            ActorNotFoundError: Nobody has the name.
        """
        await self.ref.stop(reason, timeout)
