"""A snapshot of a whole tree, and a plain-text picture of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from supervision.child import ChildState, ChildType
from supervision.parent import Parent

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Hashable, Iterator

    from rich.text import Text as RichText
    from rich.tree import Tree as RichTree

    from supervision.cell import Cell
    from supervision.process import ProcessActor
    from supervision.record import Child

__all__ = ["Node", "cell_of_task", "holds", "picture", "snapshot"]

STYLES: Final = {
    ChildState.STARTING: "yellow",
    ChildState.RUNNING: "green",
    ChildState.RESTARTING: "red",
    ChildState.UNDEFINED: "dim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One child, or the root, at one moment.

    Attributes:
        id: The id in its spec.
        path: Its place in the tree.
        kind: The class of the actor; "function" for a child function, "" for a child that does not
            run.
        type: Worker or supervisor.
        state: Whether it runs.
        incarnation: Which life; 0 when it never lived.
        restarts: How often it has been restarted.
        age_s: Seconds since this life began.
        mailbox: How many messages wait.
        handling: The type of the message that it works on; "" when idle.
        pid: The process that it runs in, if it has one of its own.
        zombies: How many zombies its tree has; told at the root only.
        window: For a supervisor: restarts used of those permitted.
        children: For a supervisor: its children in the order of their start.
    """

    id: Hashable
    path: str
    kind: str
    type: ChildType
    state: ChildState
    incarnation: int
    restarts: int
    age_s: float
    mailbox: int
    handling: str
    pid: int | None = None
    zombies: int = 0
    window: tuple[int, int] | None = None
    children: tuple[Node, ...] = ()

    def __iter__(self) -> Iterator[Node]:
        """Give this node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child

    def __rich__(self) -> RichTree:
        """Be drawn by rich, where that is installed: ``rich.print(system.tree())``."""
        from rich.tree import Tree  # noqa: PLC0415 - only rich itself calls this

        drawn = Tree(_rich_line(self))
        for child in self.children:
            drawn.children.append(child.__rich__())
        return drawn


def snapshot(cell: Cell) -> Node:
    """Look at a root and all below it, at once and without asking anybody."""
    actor = cell.actor
    kind = ChildType.SUPERVISOR if isinstance(actor, Parent) else ChildType.WORKER
    state = ChildState.UNDEFINED if cell.over else ChildState.RUNNING
    return _node(cell, kind, state, restarts=0, zombies=len(cell.runtime.zombies))


def cell_of_task(root: Cell, task: Task[object]) -> Cell | None:
    """Find the life below a root, or the root itself, that a task is that of."""
    path, cell = task.get_name(), root
    while cell.task is not task:
        actor = cell.actor
        below = (
            child.cell
            for child in (tuple(actor.children()) if isinstance(actor, Parent) else ())
            if child.cell is not None
        )
        found = next((c for c in below if c.task is task or path.startswith(f"{c.path}/")), None)
        if found is None:
            return None
        cell = found
    return cell


def holds(cell: Cell, task: Task[object] | None) -> bool:
    """Tell whether a task is that of a life, or one that it has spawned, or that of any life below it."""
    if cell.task is task or (cell.spawned is not None and task in cell.spawned):
        return True
    actor = cell.actor
    below = actor.children() if isinstance(actor, Parent) else ()
    return any(child.cell is not None and holds(child.cell, task) for child in below)


def picture(node: Node) -> str:
    """Draw a tree as text, one line for each child."""
    return "\n".join(_lines(node, "", ""))


def _node(
    cell: Cell, kind: ChildType, state: ChildState, *, restarts: int, zombies: int = 0
) -> Node:
    actor, clock = cell.actor, cell.runtime.clock
    parent = actor if isinstance(actor, Parent) else None
    elsewhere = _elsewhere(actor)
    lives = not cell.over
    return Node(
        id=cell.id,
        path=cell.path,
        kind=_kind(actor) if elsewhere is None else elsewhere.kind,
        type=kind,
        state=state,
        incarnation=cell.incarnation,
        restarts=restarts,
        age_s=clock.monotonic() - cell.born_at if lives else 0.0,
        mailbox=len(cell.mailbox.user or ()) + len(cell.mailbox.system or ()),
        handling="" if cell.current is None else _handling(cell.current),
        pid=None if elsewhere is None else elsewhere.pid,
        zombies=zombies,
        window=None if parent is None else parent.window(clock.monotonic()),
        children=() if parent is None else tuple(_child(cell, c) for c in parent.children()),
    )


def _child(parent: Cell, child: Child) -> Node:
    if child.cell is not None:
        return _node(child.cell, child.spec.type, child.state, restarts=child.restarts)
    return Node(
        id=child.spec.id,
        path=f"{parent.path}/{child.spec.id}",
        kind="",
        type=child.spec.type,
        state=child.state,
        incarnation=0,
        restarts=child.restarts,
        age_s=0.0,
        mailbox=0,
        handling="",
    )


def _kind(actor: object) -> str:
    if actor is None:
        return ""
    return type(actor).__name__ if hasattr(actor, "handle_cast") else "function"


def _elsewhere(actor: object) -> ProcessActor | None:
    """Return the actor if it stands for a child in a process of its own."""
    process = sys.modules.get("supervision.process")  # nobody has such a child before it is there
    return actor if process is not None and isinstance(actor, process.ProcessActor) else None


def _handling(item: object) -> str:
    inner = getattr(item, "request", getattr(item, "message", item))
    return type(inner).__name__


def _rich_line(node: Node) -> RichText:
    from rich.text import Text  # noqa: PLC0415 - only rich itself asks for it

    kind = f" {node.kind}" if node.kind else ""
    return Text.assemble(
        (str(node.id), "bold"), kind, " (", (", ".join(_facts(node)), STYLES[node.state]), ")"
    )


def _facts(node: Node) -> list[str]:
    facts = [str(node.state)]
    if node.window is not None:
        facts.append(f"restarts {node.window[0]}/{node.window[1]}")
    if node.restarts:
        facts.append(f"restarted {node.restarts}x")
    if node.mailbox:
        facts.append(f"mailbox {node.mailbox}")
    if node.handling:
        facts.append(f"handling {node.handling}")
    if node.pid is not None:
        facts.append(f"pid {node.pid}")
    if node.zombies:
        facts.append(f"zombies {node.zombies}")
    return facts


def _lines(node: Node, first: str, rest: str) -> Iterator[str]:
    kind = f" {node.kind}" if node.kind else ""
    yield f"{first}{node.id}{kind} ({', '.join(_facts(node))})"
    last = len(node.children) - 1
    for place, child in enumerate(node.children):
        yield from _lines(
            child,
            rest + ("└── " if place == last else "├── "),
            rest + ("    " if place == last else "│   "),
        )
