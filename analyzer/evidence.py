"""Evidence: what an edge keeps of its flows besides how many there were and when - names, requests, policies, and what is rare."""

from __future__ import annotations

from analyzer.connection import observing_cluster
from analyzer.model.edge import EdgeStats, EdgeTable
from analyzer.model.flow import Detail, Direction, DnsRecord, Flow, Verdict
from analyzer.shapes import Manner, Shape

__all__ = ["MAX_TEXT", "add_evidence"]

MAX_TEXT = 512
"""Longest HTTP path or DNS name kept as evidence; a longer one marks the evidence as incomplete."""


def add_evidence(table: EdgeTable, stats: EdgeStats, shape: Shape, manner: Manner, flow: Flow) -> None:
    """What varies from record to record of one shape, or is rare."""
    weight, detail = flow.weight, flow.detail
    stats.resets += manner.resets * weight
    stats.guessed += manner.guessed * weight
    stats.conflicting += shape.conflicting * weight
    if flow.aggregated:
        stats.uncertain += weight
    if not shape.kin.directed:
        pair = (str(flow.source_port), str(flow.destination_port))
        stats.pairs.add(pair[::-1] if shape.swapped else pair, weight)
    if shape.outside:
        _names(stats, shape, flow)
    if detail is not None:
        _details(table, stats, shape, flow, detail)


def _names(stats: EdgeStats, shape: Shape, flow: Flow) -> None:
    detail = flow.detail
    names = () if detail is None else (detail.source_names if shape.outside == 1 else detail.destination_names)
    end = flow.source if shape.outside == 1 else flow.destination
    names = names or tuple(label.key for label in end.labels if label.source == "fqdn" and "*" not in label.key)
    if not names:
        stats.unnamed += flow.weight
    for name in names:
        if len(name) > MAX_TEXT:
            stats.names.overflow = True
        else:
            stats.names.add(name, flow.weight)


def _details(table: EdgeTable, stats: EdgeStats, shape: Shape, flow: Flow, detail: Detail) -> None:
    weight = flow.weight
    service = detail.source_service if shape.kin.reply else detail.destination_service
    if service:
        stats.services.add(service, weight)
    for direction, allowed, denied in (
        (Direction.EGRESS, detail.egress_allowed_by, detail.egress_denied_by),
        (Direction.INGRESS, detail.ingress_allowed_by, detail.ingress_denied_by),
    ):
        for policy in allowed:
            stats.allowed_by.add((direction.name, *policy), weight)
        for policy in denied:
            stats.denied_by.add((direction.name, *policy), weight)
    if detail.http is not None:
        http = detail.http
        if len(http.path) + len(http.host) > MAX_TEXT:
            stats.http.overflow = True
        else:
            verdict = Verdict.DROPPED if http.code == 403 else flow.verdict
            stats.http.add((http.method, http.path, http.host, str(int(verdict))), weight)
    if detail.dns is not None:
        _dns(table, stats, shape, flow, detail.dns)


def _dns(table: EdgeTable, stats: EdgeStats, shape: Shape, flow: Flow, dns: DnsRecord) -> None:
    if not dns.query or len(dns.query) > MAX_TEXT:
        stats.queries.overflow = stats.queries.overflow or bool(dns.query)
        return
    # Search-list expansions come back as NXDOMAIN: names nobody can use.
    if (shape.kin.reply or dns.ips) and not dns.rcode:
        stats.queries.add(dns.query, flow.weight)
    cluster = observing_cluster(flow.node)
    for address in dns.ips[:64]:
        table.answers.add((cluster, address[:64], dns.query), flow.weight)
