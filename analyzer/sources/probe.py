"""Why a server cannot be reached, found out with plain sockets: gRPC's own errors ("Socket closed") do not tell."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import NamedTuple

from analyzer.errors import ConnectionFailed

__all__ = ["Endpoint", "Finding", "probe_plain", "probe_tls"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
"""An HTTP/2 client's first bytes: the preface and an empty SETTINGS frame (RFC 9113, 3.4)."""
_FRAME_HEADER = 9
_SETTINGS = 4
_WRONG_NAME = frozenset({62, 63, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and its siblings for e-mail and IP addresses."""
_EXPIRED = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""
_NEEDS_CERTIFICATE = (
    "CERTIFICATE_REQUIRED",
    "HANDSHAKE_FAILURE",
    "BAD_CERTIFICATE",
    "UNKNOWN_CA",
    "CERTIFICATE_UNKNOWN",
)


class Endpoint(NamedTuple):
    """A host and port, or the `path` of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self, timeout: float) -> socket.socket:
        """A connected socket. Raises OSError."""
        if not self.path:
            return socket.create_connection((self.host, self.port), timeout)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(self.path)
        except OSError:
            connection.close()
            raise
        return connection


class Finding(NamedTuple):
    """What is wrong, and what to do about it."""

    message: str
    hint: str = ""


def probe_plain(endpoint: Endpoint, timeout: float) -> Finding | None:
    """Why an unencrypted gRPC connection fails, or None if it should not."""
    unreachable = _unreachable(endpoint, timeout)
    if unreachable:
        return unreachable
    answer = _plain_answer(endpoint, timeout)
    if _is_http2(answer):
        return None
    if _speaks_tls(endpoint, timeout):
        return Finding(
            f"{endpoint} expects TLS", "add --tls, or write the server as tls://host:port; also --tls-ca-cert-files"
        )
    return _no_grpc(endpoint, answer)


def probe_tls(endpoint: Endpoint, context: ssl.SSLContext, name: str, timeout: float) -> Finding | None:
    """Why a TLS connection that should find a certificate for `name` fails, or None if it should not."""
    unreachable = _unreachable(endpoint, timeout)
    if unreachable:
        return unreachable
    name = name or endpoint.host or "localhost"
    try:
        with endpoint.connect(timeout) as plain, context.wrap_socket(plain, server_hostname=name) as secured:
            if secured.selected_alpn_protocol() != "h2":
                return _no_grpc(endpoint, b"")
            secured.sendall(_PREFACE)
            if _is_http2(secured.recv(_FRAME_HEADER)):
                return None
    except ssl.SSLCertVerificationError as error:
        return _distrusted(endpoint, error, name, timeout)
    except ssl.SSLError as error:
        return _handshake_failed(endpoint, error, timeout)
    except OSError:
        pass
    # TLS 1.3 refuses a client after the client's handshake is done, some servers by just closing.
    return _client_refused(endpoint) if _speaks_tls(endpoint, timeout) else _not_tls(endpoint, timeout)


def _served_certificate(endpoint: Endpoint, context: ssl.SSLContext, timeout: float) -> tuple[str, tuple[str, ...]]:
    """The certificate a server shows (PEM), unverified, and the DNS names in it. Raises ConnectionFailed."""
    try:
        with (
            endpoint.connect(timeout) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host or "localhost") as secured,
        ):
            pem = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
    except OSError as error:
        finding = _unreachable(endpoint, timeout) or _not_tls(endpoint, timeout)
        finding = finding or Finding(f"{endpoint} shows no certificate: {error}")
        raise ConnectionFailed(finding.message, hint=finding.hint) from error
    return pem, _names_in(endpoint, pem, timeout)


def _names_in(endpoint: Endpoint, pem: str, timeout: float) -> tuple[str, ...]:
    """The DNS names of a certificate the server shows: only a verified certificate is taken apart, so trust just this one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    with contextlib.suppress(OSError):
        context.load_verify_locations(cadata=pem)
        with (
            endpoint.connect(timeout) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host or "localhost") as secured,
        ):
            alternatives = (secured.getpeercert() or {}).get("subjectAltName", ())
            return tuple(str(entry[1]) for entry in alternatives if entry[0] == "DNS")
    return ()


def _unreachable(endpoint: Endpoint, timeout: float) -> Finding | None:
    try:
        endpoint.connect(timeout).close()
    except socket.gaierror as error:
        return Finding(f"the name {endpoint.host} cannot be resolved: {error.strerror}", "check the server's address")
    except TimeoutError:
        return Finding(
            f"{endpoint} does not answer within {timeout:g} s",
            "check the address, and that no firewall or network policy stands between",
        )
    except (ConnectionRefusedError, FileNotFoundError):
        return Finding(
            f"nothing listens on {endpoint}",
            "forward Relay's port (kubectl -n kube-system port-forward service/hubble-relay 4245:80), or check --server",
        )
    except OSError as error:
        return Finding(f"{endpoint} cannot be reached: {error.strerror or error}", "check the server's address")
    return None


def _plain_answer(endpoint: Endpoint, timeout: float) -> bytes:
    with contextlib.suppress(OSError), endpoint.connect(timeout) as connection:
        connection.settimeout(min(timeout, 2.0))
        connection.sendall(_PREFACE)
        return connection.recv(_FRAME_HEADER)
    return b""


def _is_http2(answer: bytes) -> bool:
    return len(answer) == _FRAME_HEADER and answer[3] == _SETTINGS


def _speaks_tls(endpoint: Endpoint, timeout: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with (
            endpoint.connect(timeout) as plain,
            context.wrap_socket(plain, server_hostname=endpoint.host or "localhost"),
        ):
            return True
    except ssl.SSLError as error:
        # An alert is TLS too: a server that insists on a client's certificate may refuse within the handshake.
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _no_grpc(endpoint: Endpoint, answer: bytes) -> Finding:
    what = "HTTP/1" if answer.startswith(b"HTTP/1") else "something else"
    return Finding(f"{endpoint} speaks {what}, not gRPC", "a Hubble server is Relay (4245) or an agent (4244)")


def _not_tls(endpoint: Endpoint, timeout: float) -> Finding | None:
    answer = _plain_answer(endpoint, timeout)
    if _is_http2(answer):
        return Finding(f"{endpoint} does not speak TLS", "leave out --tls and tls://")
    return _no_grpc(endpoint, answer)


def _distrusted(endpoint: Endpoint, error: ssl.SSLCertVerificationError, name: str, timeout: float) -> Finding:
    if error.verify_code in _WRONG_NAME:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with contextlib.suppress(ConnectionFailed):
            names = _served_certificate(endpoint, context, timeout)[1]
            listed = ", ".join(names) or "no DNS name"
            example = names[0].replace("*", "instance", 1) if names else "the name in it"
            return Finding(
                f"the certificate of {endpoint} is not for {name} but for {listed}", f"add --tls-server-name {example}"
            )
        return Finding(f"the certificate of {endpoint} is not for {name}", "add --tls-server-name")
    if error.verify_code in _EXPIRED:
        return Finding(f"the certificate of {endpoint}: {error.verify_message}", "renew it, and check this clock")
    return Finding(
        f"the certificate of {endpoint} is not signed by a trusted authority: {error.verify_message}",
        "name the authority with --tls-ca-cert-files (ca.crt of the secret cilium-ca in kube-system)",
    )


def _handshake_failed(endpoint: Endpoint, error: ssl.SSLError, timeout: float) -> Finding | None:
    reason = error.reason or ""
    if any(marker in reason for marker in _NEEDS_CERTIFICATE):
        return _client_refused(endpoint)
    if "ALERT" in reason:
        return Finding(f"{endpoint} refuses the TLS handshake: {reason.lower().replace('_', ' ')}")
    return _not_tls(endpoint, timeout)


def _client_refused(endpoint: Endpoint) -> Finding:
    return Finding(
        f"{endpoint} wants a client certificate that it trusts",
        "give --tls-client-cert-file and --tls-client-key-file (the secret hubble-relay-client-certs in kube-system)",
    )
