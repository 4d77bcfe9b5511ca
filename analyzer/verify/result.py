"""What a check found: accepted traffic that would break, connections open on one side only, rules that nothing needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from analyzer.model.edge import Edge
from analyzer.policy import Origin
from analyzer.policy.validate import Refusal
from analyzer.simulate import Result, SideOutcome

__all__ = ["Check", "HalfOpen", "Unsound"]


class Unsound(NamedTuple):
    """One side of an accepted edge that a proposal would break; `requests` are those the proxy would refuse."""

    edge: Edge
    direction: str
    outcome: SideOutcome
    requests: tuple[str, ...] = ()


class HalfOpen(NamedTuple):
    """An accepted edge that one end's policies let pass and the other end's do not: no connection comes of it.

    `direction` is the one that is open, by `open`; `closed` is what the other end makes of it, and `why` the proposal's reason to
    refuse it there, empty if it gave none. Where the engine cannot tell of one of them, it is not `sure`.
    """

    edge: Edge
    direction: str
    open: SideOutcome
    closed: SideOutcome
    why: str = ""

    @property
    def sure(self) -> bool:
        return (self.open.result, self.closed.result) == (Result.ALLOWED, Result.DENIED)


@dataclass(frozen=True, slots=True)
class Check:
    """What the engine says about a proposal.

    `edges` is how many accepted ones were asked about; `unsound` are those it would break, `undecided` those it is not sure about,
    `half_open` those open at one end only. `idle` are rules without an edge that they alone allow, among those proposed;
    `beside` are those that existing policies leave no such edge. `invalid` are documents that the agent would refuse, by name.
    """

    edges: int = 0
    unsound: tuple[Unsound, ...] = ()
    undecided: tuple[Unsound, ...] = ()
    idle: tuple[Origin, ...] = ()
    invalid: tuple[tuple[str, Refusal], ...] = ()
    half_open: tuple[HalfOpen, ...] = ()
    beside: tuple[Origin, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing that was accepted would be dropped."""
        return not self.unsound

    @property
    def passed(self) -> bool:
        """Whether it may be written: nothing that was accepted would be dropped, no document refused, and no rule idle."""
        return self.sound and not self.invalid and not self.idle

    @property
    def minimal(self) -> bool:
        """Whether each rule is the only one that allows something."""
        return not self.idle and not self.beside

    def __add__(self, other: Check) -> Check:
        """What was found here and in another cluster."""
        return Check(
            self.edges + other.edges,
            self.unsound + other.unsound,
            self.undecided + other.undecided,
            self.idle + other.idle,
            self.invalid + other.invalid,
            self.half_open + other.half_open,
            self.beside + other.beside,
        )
