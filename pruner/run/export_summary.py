"""What the verb export says at its end."""

from __future__ import annotations

from typing import Any

from ..formats import ExportedFile, FileFigures
from ..tasks import MetricKind
from .console_summary import Outcome


def summarize_export(exported: ExportedFile, kind: MetricKind | None = None) -> Outcome:
    """Summarize a file: its size and batch, how far its answers are off, how fast it is."""
    size, many = exported.figures.size_bytes, len(exported.digests) > 1
    batch = "any batch"
    if exported.fixed_because:
        batch = f"a batch of {exported.batch} only ({exported.fixed_because})"
    where = f"{exported.file}" + (f" ({', '.join(sorted(exported.digests))})" if many else "")
    lines = [
        f"{exported.form} {exported.precision}: {where}",
        f"  {_format_size(size)}; takes {batch}",
        f"  {_describe_agreement(exported)}",
    ]
    if exported.figures.latency is not None:
        lines.append(f"  {_describe_latency(exported)}")
    full = exported.full
    if kind is not None and full is not None and full.value is not None:
        assert exported.figures.value is not None
        lines.append(
            f"  {kind.name}: {kind.format(exported.figures.value)}, "
            f"in fp32 {kind.format(full.value)}"
        )
    return Outcome("\n".join(lines), _collect_data(exported, kind))


def _describe_agreement(exported: ExportedFile) -> str:
    found = exported.agreement
    if found is None:
        return f"not verified: {exported.unverified}"
    text = (
        f"verified by {exported.runtime}: {found.batches} batches, largest difference to torch "
        f"{found.absolute:.2g} ({found.relative:.2g} of the outputs' spread)"
    )
    if found.changed:
        text += f", {found.changed:.2%} of an output of integers changed"
    return text


def _describe_latency(exported: ExportedFile) -> str:
    latency = exported.figures.latency
    assert latency is not None
    threads = "1 thread" if exported.threads == 1 else f"{exported.threads} threads"
    text = (
        f"latency: median {latency.median_ms:.4g} ms +- {latency.interval_ms:.2g} (95%) of "
        f"{latency.runs} runs, batch {exported.batch}, {threads}"
    )
    full = exported.full
    if full is not None and full.latency is not None:
        text += (
            f"; in turn with it fp32 {full.latency.median_ms:.4g} ms, "
            f"{_format_size(full.size_bytes)}"
        )
    return text


def _collect_data(exported: ExportedFile, kind: MetricKind | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "file": str(exported.file),
        "format": exported.form,
        "precision": exported.precision,
        "batch": exported.batch if exported.fixed_because else None,
        "runtime": exported.runtime,
        "unverified": exported.unverified,
        **_collect_figures(exported.figures, kind),
    }
    if exported.agreement is not None:
        data["difference"] = exported.agreement.absolute
        data["relative_difference"] = exported.agreement.relative
        data["changed"] = exported.agreement.changed
    if exported.full is not None:
        data["fp32"] = _collect_figures(exported.full, kind)
    return data


def _collect_figures(figures: FileFigures, kind: MetricKind | None) -> dict[str, Any]:
    data: dict[str, Any] = {"size_bytes": figures.size_bytes}
    if figures.latency is not None:
        data |= {
            "latency_ms": figures.latency.median_ms,
            "interval_ms": figures.latency.interval_ms,
            "runs": figures.latency.runs,
        }
    if kind is not None and figures.value is not None:
        data[kind.key] = figures.value
    return data


def _format_size(size: int) -> str:
    return f"{size / 1e6:.3g} MB" if size >= 1e5 else f"{size / 1e3:.3g} kB"
