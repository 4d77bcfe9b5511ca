"""PlainLines: `KnownLines` once more in Python, by dictionaries and regular expressions; the one in C is held equal to it."""

from __future__ import annotations

import re
from typing import NamedTuple

from analyzer.model.flow import Flow, Form
from analyzer.sources import normal
from analyzer.sources.known import second

__all__ = ["PlainLines"]

_START = re.compile(
    rb'\{"flow":\{"time":"((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z)","uuid":"([0-9A-Za-z-]{1,64})(?=")'
)
_PORTS = re.compile(rb'(?:TCP|UDP)":\{"source_port":([1-9]\d{0,4}),"destination_port":([1-9]\d{0,4})(?=[,}])')
_L4 = b'"l4":{"'
_ONCE = ((b'"source_port"', 1), (b'"destination_port"', 1), (b'"ICMP', 0), (b'Port"', 0))


class _Cut(NamedTuple):
    """What differs from line to line, and the rest: one stretch of bytes if no `ports` were cut out, or else two that are not
    empty."""

    second: bytes
    fraction: bytes
    uuid: bytes
    ports: tuple[int, int] | None
    rest: tuple[bytes, bytes]


class _Entry(NamedTuple):
    addresses: tuple[str, str]
    ports: tuple[int, int]
    form: Form


def _cut(line: bytes) -> _Cut | None:
    found = _START.match(line)
    if found is None or len(line) > 4096:
        return None
    time, second, fraction, uuid = found.groups()
    end = b'"time":"%b"}' % time
    start, stop = found.end(), len(line) - len(end)
    if stop < start or not line.endswith(end):
        return None
    at = line.find(_L4, start, stop)
    numbers = _PORTS.match(line, at + len(_L4), stop) if at >= 0 else None
    if numbers is not None:
        ports = int(numbers[1]), int(numbers[2])
        if max(ports) <= normal.MAX_PORT:
            return _Cut(
                second, fraction or b"", uuid, ports, (line[start : numbers.start(1)], line[numbers.end() : stop])
            )
    return _Cut(second, fraction or b"", uuid, None, (line[start:stop], b""))


class PlainLines:
    """Unbounded, and it keeps all that it compares."""

    def __init__(self) -> None:
        self._entries: dict[tuple[bytes, bytes], _Entry] = {}

    def read(self, data: bytes, /) -> tuple[list[Flow | None], list[int]]:
        records, unknown, start, find = list[Flow | None](), list[int](), 0, self._find
        while start < len(data):
            end = data.find(b"\n", start)
            end = len(data) if end < 0 else end
            flow = find(data[start:end])
            if flow is None:
                unknown += (start, end)
            records.append(flow)
            start = end + 1
        return records, unknown

    def keep(self, line: bytes, flow: Flow, /) -> bool:
        cut = _cut(line)
        if cut is None or not _is_proper(line, cut) or not self._is_said(cut, flow):
            return False
        self._entries[cut.rest] = _Entry(flow[2:4], flow[4:6], flow.form)
        return True

    def _find(self, line: bytes) -> Flow | None:
        cut = _cut(line)
        found = self._entries.get(cut.rest) if cut else None
        time = self._time(cut) if cut and found else -1
        if cut is None or found is None or time < 0:
            return None
        return Flow(time, cut.uuid.decode(), *found.addresses, *(cut.ports or found.ports), found.form)

    def _is_said(self, cut: _Cut, flow: Flow) -> bool:
        ports = (flow.source_port, flow.destination_port)
        same = (self._time(cut), cut.uuid.decode()) == (flow.time, flow.uuid)
        return same and cut.ports in (None, ports)

    @staticmethod
    def _time(cut: _Cut) -> int:
        whole = second(cut.second.decode())
        told = 0 <= whole <= normal.MAX_TIME - 2_000_000_000
        return whole + int(cut.fraction.ljust(9, b"0")) if told else -1


def _is_proper(line: bytes, cut: _Cut) -> bool:
    """Whether no value but those that were cut out can be what the flow says."""
    if b"\\" in line or line.count(b'"time"') != 2 or line.count(b'"uuid"') != 1:
        return False
    return cut.ports is None or all(line.count(name) == number for name, number in _ONCE)
