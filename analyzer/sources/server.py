"""ServerOptions: which Hubble server to speak to and how, under the hubble CLI's own names; and the channel to it."""

from __future__ import annotations

import base64
import importlib.metadata
import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analyzer.errors import UsageError
from analyzer.sources.probe import Endpoint
from analyzer.sources.unverified import unverified

# gRPC's core logs every failed handshake to stderr; what went wrong is told in words by `probe` and `relay`. It reads this
# when it is first imported, so everything else here takes `grpc` from this module.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
_OWN_POLLING = ((1, 80), (1, 85))
"""The first and last release that hand every message from thread to thread ("event engine") unless told not to. Earlier ones
let the thread that waits for a message read it, at half the cost; later ones may not know the switch, and would say so."""


def _read_by_who_waits() -> None:
    first, last = _OWN_POLLING
    major, minor, *_ = importlib.metadata.version("grpcio").split(".")
    if major.isdigit() and minor.isdigit() and first <= (int(major), int(minor)) <= last:
        os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client")
        # Nobody waits while the consumer is held up; then gRPC looks by itself, every 5 s unless told, to answer pings.
        os.environ.setdefault("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "1000")


_read_by_who_waits()

import grpc  # noqa: E402 - it reads the environment when imported
import grpc.experimental  # noqa: E402

__all__ = ["DEFAULT_PORT", "DEFAULT_SERVER", "ServerOptions", "grpc", "open_channel"]

DEFAULT_SERVER = "localhost:4245"
DEFAULT_PORT = 4245
"""Where Relay listens, and the port meant by an address that names none."""

_TLS_PREFIX = "tls://"
_UNIX_PREFIX = "unix:"
_FORMS = "write it as host:port, tls://host:port or unix:///path/to/hubble.sock"
_MILLISECONDS = 1000
_LARGEST = 64 << 20
"""Bytes of a message that are still taken. gRPC's own bound of 4 MiB would end a stream at one flow with a huge URL in it,
and again after every reconnect; as for lines of files, what is over this bound is nobody's honest record."""
_AHEAD = 4 << 20
"""Bytes that the server may send before they are read, so that nothing stands still while messages gather."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """A Hubble server (an agent or Relay) and how to reach it. Times are seconds; file names are read when connecting, so a
    renewed certificate is picked up by the next connection.

    `timeout` bounds connecting, `request_timeout` a single request and answer. Defaults and rules are those of the hubble
    CLI: ``tls://`` turns TLS on; without CA files the system's roots count; a client certificate needs its key and TLS.
    Raises UsageError for combinations that cannot be honoured.
    """

    server: str = DEFAULT_SERVER
    tls: bool = False
    tls_ca_cert_files: tuple[str, ...] = ()
    tls_client_cert_file: str = ""
    tls_client_key_file: str = ""
    tls_server_name: str = ""
    tls_allow_insecure: bool = False
    basic_auth_username: str = ""
    basic_auth_password: str = field(default="", repr=False)
    timeout: float = 5.0
    request_timeout: float = 12.0

    def __post_init__(self) -> None:
        self.endpoint()
        if bool(self.tls_client_cert_file) != bool(self.tls_client_key_file):
            raise UsageError(
                "a client certificate and its private key are both required",
                hint="give --tls-client-cert-file and --tls-client-key-file together",
            )
        if self.secure:
            return
        if self.tls_client_cert_file:
            raise UsageError("a client certificate needs TLS", hint="add --tls, or write the server as tls://host:port")
        if self.basic_auth_username or self.basic_auth_password:
            raise UsageError(
                "a password is not sent over an unencrypted connection",
                hint="add --tls, or write the server as tls://host:port",
            )

    @property
    def secure(self) -> bool:
        """Whether to speak TLS."""
        return self.tls or self.server.startswith(_TLS_PREFIX)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every request: the basic authentication, if there is any."""
        if not self.basic_auth_username:
            return ()
        pair = f"{self.basic_auth_username}:{self.basic_auth_password}".encode()
        return (("authorization", f"Basic {base64.b64encode(pair).decode('ascii')}"),)

    def endpoint(self) -> Endpoint:
        """The address as sockets know it. Raises UsageError when it is none."""
        address = self.server.removeprefix(_TLS_PREFIX)
        if address.startswith(_UNIX_PREFIX):
            path = address.removeprefix(_UNIX_PREFIX)
            return Endpoint(path=path.removeprefix("//") if path.startswith("///") else path)
        if not address or "/" in address:
            raise UsageError(f"{self.server!r} is no server address", hint=_FORMS)
        host, port = _split(address)
        if not host or not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            raise UsageError(f"{self.server!r} is no server address", hint=_FORMS)
        return Endpoint(host, int(port))

    def certificates(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """CA certificates, client key and client certificate as PEM, None where there is none. Raises UsageError."""
        authorities = b"\n".join(_read(name) for name in self.tls_ca_cert_files) or None
        key = _read(self.tls_client_key_file) if self.tls_client_key_file else None
        certificate = _read(self.tls_client_cert_file) if self.tls_client_cert_file else None
        return authorities, key, certificate

    def tls_context(self) -> ssl.SSLContext:
        """The same trust as the channel's, for looking at a server that cannot be connected to. Raises UsageError."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        try:
            if self.tls_ca_cert_files:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.set_alpn_protocols(["h2"])
                for name in self.tls_ca_cert_files:
                    context.load_verify_locations(cafile=name)
            if self.tls_client_cert_file:
                context.load_cert_chain(self.tls_client_cert_file, self.tls_client_key_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"the TLS files cannot be used: {error.strerror or error}") from error
        if self.tls_allow_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


@contextmanager
def open_channel(options: ServerOptions) -> Iterator[grpc.Channel]:
    """A channel to the server, closed afterwards. Nothing is connected yet. Raises UsageError for files that cannot be read."""
    arguments: list[tuple[str, Any]] = [
        # Streams are read by the thread that waits for them, not through a second one: twice the flows per second.
        (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
        # A connection attempt may take this long (gRPC's own bound is 20 s).
        ("grpc.min_reconnect_backoff_ms", int(options.timeout * _MILLISECONDS)),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", _LARGEST),
        ("grpc.http2.lookahead_bytes", _AHEAD),
        # Channels do not share connections, so that a new one reads renewed certificates.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with ExitStack() as stack:
        if not options.secure:
            channel = grpc.insecure_channel(_target(options), options=arguments)
        elif options.tls_allow_insecure:
            endpoint, name = options.endpoint(), options.tls_server_name
            path = stack.enter_context(unverified(endpoint, options.tls_context(), name, options.timeout))
            arguments.append(("grpc.default_authority", name or endpoint.host or "localhost"))
            channel = grpc.insecure_channel(f"unix:{path}", options=arguments)
        else:
            if options.tls_server_name:
                arguments.append(("grpc.ssl_target_name_override", options.tls_server_name))
            credentials = grpc.ssl_channel_credentials(*options.certificates())
            channel = grpc.secure_channel(_target(options), credentials, options=arguments)
        yield stack.enter_context(channel)


def _target(options: ServerOptions) -> str:
    endpoint = options.endpoint()
    return f"unix:{endpoint.path}" if endpoint.path else f"dns:///{endpoint}"


def _split(address: str) -> tuple[str, str]:
    """Host and port; an IPv6 address stands in brackets if a port follows it."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, rest.removeprefix(":") or str(DEFAULT_PORT)
    if address.count(":") > 1:
        return address, str(DEFAULT_PORT)
    host, colon, port = address.partition(":")
    return host, port if colon else str(DEFAULT_PORT)


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
