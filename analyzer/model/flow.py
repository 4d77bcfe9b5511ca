"""Flow: one Hubble event about one packet, as every decoder hands it on; and the enumerations it speaks in."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels

__all__ = [
    "EMPTY_ENDPOINT",
    "OUT_OF_SIGHT",
    "Detail",
    "Direction",
    "DnsRecord",
    "DropReason",
    "EventKind",
    "Flow",
    "FlowEndpoint",
    "Form",
    "HttpRecord",
    "KeptForm",
    "LostEvents",
    "NodeStatus",
    "ObservationPoint",
    "PolicyRef",
    "Skip",
    "TcpFlags",
    "TraceReason",
    "Verdict",
    "Workload",
]


class Verdict(IntEnum):
    """flow.Verdict. A number this table does not know stays a plain int in `Flow.verdict`."""

    UNKNOWN = 0
    FORWARDED = 1
    DROPPED = 2
    ERROR = 3
    AUDIT = 4
    REDIRECTED = 5
    TRACED = 6
    TRANSLATED = 7


class Direction(IntEnum):
    """flow.TrafficDirection; for policies, the section a rule stands in."""

    UNKNOWN = 0
    INGRESS = 1
    EGRESS = 2


class EventKind(IntEnum):
    """flow.CiliumEventType.type: which part of the datapath or the proxy spoke."""

    UNKNOWN = 0
    DROP = 1
    DEBUG = 2
    CAPTURE = 3
    TRACE = 4
    POLICY_VERDICT = 5
    TRACE_SOCK = 7
    L7 = 129
    AGENT = 130


class ObservationPoint(IntEnum):
    """The datapath's numbers for `event_type.sub_type` of a trace, where 0 is TO_ENDPOINT (flow.proto's enum says 101)."""

    TO_ENDPOINT = 0
    TO_PROXY = 1
    TO_HOST = 2
    TO_STACK = 3
    TO_OVERLAY = 4
    FROM_ENDPOINT = 5
    FROM_PROXY = 6
    FROM_HOST = 7
    FROM_STACK = 8
    FROM_OVERLAY = 9
    FROM_NETWORK = 10
    TO_NETWORK = 11
    FROM_CRYPTO = 12
    TO_CRYPTO = 13


class TraceReason(IntEnum):
    """flow.TraceReason: the connection-tracking state of the packet."""

    UNKNOWN = 0
    NEW = 1
    ESTABLISHED = 2
    REPLY = 3
    RELATED = 4
    REOPENED = 5
    SRV6_ENCAP = 6
    SRV6_DECAP = 7
    ENCRYPT_OVERLAY = 8


class DropReason(IntEnum):
    """The drop reasons that decide what a drop means to a policy; every other number stays a plain int."""

    UNKNOWN = 0
    POLICY_DENIED = 133
    LB_SRC_RANGE = 177
    POLICY_DENY = 181
    AUTH_REQUIRED = 189


class TcpFlags(IntFlag):
    """TCP header flags, by their bit in the header."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80
    NS = 0x100


class Skip(IntEnum):
    """Why a record that was read is not part of an edge. The counts of these and of the edges add up to the records read."""

    MALFORMED = 1
    """Not JSON, not UTF-8, or not a record of Hubble."""
    TOO_LONG = 2
    """A line above the size limit."""
    EMPTY = 3
    """A message or object without a flow in it."""
    LOST_EVENTS = 4
    NODE_STATUS = 5
    AGENT_EVENT = 6
    DEBUG_EVENT = 7
    FILTERED = 8
    """Read, and then excluded by the user's filters."""
    DUPLICATE = 9
    """Read before: the same content, or the same event on a stream that was resumed."""
    SOCKET = 10
    """Socket-level translation events (SOCK, TRACED, TRANSLATED): not traffic on the wire."""
    CAPTURE = 11
    """Debug captures and records without a verdict."""
    ICMP_ERROR = 12
    """ICMP errors and other packets RELATED to an existing connection."""
    NEIGHBOUR_DISCOVERY = 13
    """IPv6 router and neighbour discovery, which policies cannot express."""
    NO_L4 = 14
    """No layer 4: ARP, unknown protocols, fragments, or a masked field."""
    NO_ENDPOINT = 15
    """Neither side has an identity: both are masked or unknown."""
    OUTSIDE_ONLY = 16
    """Both sides lie outside the cluster."""
    SERVICE_ADDRESS = 17
    """Seen before service translation; the same packet is seen again with its backend."""


class Workload(NamedTuple):
    """A workload as Hubble names it: ``Deployment``/``StatefulSet``/... and its name."""

    kind: str
    name: str


class FlowEndpoint(NamedTuple):
    """One side of a flow as reported. Decoders intern it: the same bytes give the same object.

    `endpoint_id` is non-zero only for an endpoint local to the reporting node; `workloads` are filled only there.
    `identity` is Cilium's number: evidence for people, never a key.
    """

    labels: Labels = Labels()
    namespace: str = ""
    cluster: str = ""
    pod: str = ""
    workloads: tuple[Workload, ...] = ()
    endpoint_id: int = 0
    identity: int = 0


EMPTY_ENDPOINT = FlowEndpoint()


class PolicyRef(NamedTuple):
    """A policy named by a verdict: flow.Policy without its labels."""

    kind: str
    namespace: str
    name: str


class HttpRecord(NamedTuple):
    """flow.HTTP: `path` is the URL's path without scheme, host and query; `code` is 0 on requests."""

    method: str
    path: str
    host: str = ""
    code: int = 0


class DnsRecord(NamedTuple):
    """flow.DNS: `query` in lower case without the trailing dot; `ips` and `rcode` on responses."""

    query: str
    ips: tuple[str, ...] = ()
    rcode: int = 0
    cnames: tuple[str, ...] = ()
    qtypes: tuple[str, ...] = ()


class Detail(NamedTuple):
    """What only some flows carry. `Flow.detail` is None when all of it is absent.

    Names are lower case without the trailing dot. `source_service` and `destination_service` are ``namespace/name``.
    """

    source_names: tuple[str, ...] = ()
    destination_names: tuple[str, ...] = ()
    source_service: str = ""
    destination_service: str = ""
    http: HttpRecord | None = None
    dns: DnsRecord | None = None
    l7_type: int = 0
    egress_allowed_by: tuple[PolicyRef, ...] = ()
    ingress_allowed_by: tuple[PolicyRef, ...] = ()
    egress_denied_by: tuple[PolicyRef, ...] = ()
    ingress_denied_by: tuple[PolicyRef, ...] = ()
    policy_match_type: int = 0
    source_xlated: str = ""


class Form(NamedTuple):
    """What an event says, but for when it happened, its uuid, and the packet's addresses and ports: most flows of a form differ
    in nothing else.

    `verdict`, `kind`, `drop_reason`, `direction`, `trace_reason` are numbers of the enumerations above, or numbers newer than
    them. `sub_type` is the datapath's own number. `is_reply` is None when unknown (the deprecated ``reply`` is folded in).
    `protocol` is None without layer 4. `weight` is above 1, or `aggregated` is set, for exporter records that stand for many
    events.
    """

    node: str
    source: FlowEndpoint
    destination: FlowEndpoint
    protocol: Protocol | None
    tcp_flags: int
    verdict: int
    kind: int
    sub_type: int
    drop_reason: int
    direction: int
    is_reply: bool | None
    trace_reason: int
    weight: int = 1
    aggregated: bool = False
    detail: Detail | None = None


class KeptForm(Form):
    """A form that its decoder keeps: the very object comes again with every flow that has it. So whoever meets it may remember
    what it comes to by its `id`, as long as the form is held on to."""

    __slots__ = ()


class Flow(NamedTuple):
    """One event about one packet, source to destination in the *packet's* direction.

    `time` is nanoseconds since the epoch, UTC (0 when masked). For ICMP `destination_port` is the type and `source_port` the code.
    All that `form` holds can be read from the flow itself.
    """

    time: int
    uuid: str
    source_ip: str
    destination_ip: str
    source_port: int
    destination_port: int
    form: Form

    def replace(self, **changes: object) -> Flow:
        """This flow with some fields changed, be they its own or its form's."""
        own = {name: changes.pop(name) for name in Flow._fields if name in changes}
        made: Flow = self._replace(form=Form(*self.form)._replace(**changes))  # type: ignore[arg-type]
        return made._replace(**own)  # type: ignore[arg-type]

    @property
    def node(self) -> str:
        return self.form.node

    @property
    def source(self) -> FlowEndpoint:
        return self.form.source

    @property
    def destination(self) -> FlowEndpoint:
        return self.form.destination

    @property
    def protocol(self) -> Protocol | None:
        return self.form.protocol

    @property
    def tcp_flags(self) -> int:
        return self.form.tcp_flags

    @property
    def verdict(self) -> int:
        return self.form.verdict

    @property
    def kind(self) -> int:
        return self.form.kind

    @property
    def sub_type(self) -> int:
        return self.form.sub_type

    @property
    def drop_reason(self) -> int:
        return self.form.drop_reason

    @property
    def direction(self) -> int:
        return self.form.direction

    @property
    def is_reply(self) -> bool | None:
        return self.form.is_reply

    @property
    def trace_reason(self) -> int:
        return self.form.trace_reason

    @property
    def weight(self) -> int:
        return self.form.weight

    @property
    def aggregated(self) -> bool:
        return self.form.aggregated

    @property
    def detail(self) -> Detail | None:
        return self.form.detail


class LostEvents(NamedTuple):
    """A `lost_events` record: `lost` events that no flow exists for. `source` is flow.LostEventSource's number."""

    node: str
    time: int
    source: int
    lost: int


OUT_OF_SIGHT = 1000
"""A `NodeStatus` state of our own: the connection was lost, and what the node saw meanwhile was gone when it came back."""


class NodeStatus(NamedTuple):
    """A `node_status` record of Relay: `state` is relay.NodeState's number, or `OUT_OF_SIGHT`."""

    nodes: tuple[str, ...]
    time: int
    state: int
    message: str = ""
