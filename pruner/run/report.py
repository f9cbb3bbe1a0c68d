"""report.html: what was asked, what was got, and how it is known, in one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .charts import bars, pairs, scatter

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6b7c; --line: #dde3ea; --page: #fff;
  --panel: #f5f7fa; --dense: #c3ccd7; --kept: #2f7d5f; --mark: #b5532a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #98a5b5; --line: #333d4a;
  --page: #12171e; --panel: #1b222c; --dense: #465365; --kept: #55b58c; --mark: #e08a5f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.2rem 1.4rem 4rem; background: var(--page);
  color: var(--ink); font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.12rem; margin: 2.6rem 0 .5rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
p { margin: .3rem 0 .7rem; } .soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .8rem;
  margin: 1.4rem 0; }
.tile { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.25; }
.tile span { color: var(--soft); font-size: .86rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .34rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .text td { text-align: left; }
.text td:first-child { color: var(--soft); white-space: nowrap; vertical-align: top; }
.text td { overflow-wrap: anywhere; } th { color: var(--soft); font-weight: 600; }
.wide { overflow-x: auto; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 11px system-ui, "DejaVu Sans", sans-serif; }
svg .soft { fill: var(--soft); } svg .dense { fill: var(--dense); } svg .kept { fill: var(--kept); }
svg .mark { fill: var(--mark); } svg .rule { stroke: var(--line); }
.chips { display: flex; flex-wrap: wrap; gap: .35rem; }
.chip { border-radius: .3rem; padding: .05rem .5rem; font-size: .82rem; background: var(--kept);
  color: var(--page); }
.chip.gone { background: none; color: var(--mark); text-decoration: line-through;
  box-shadow: inset 0 0 0 1px var(--mark); }
pre { background: var(--panel); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto;
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
"""


def render(state: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """The report of one budget, from run.json and metrics.json."""
    name = state["config"]["model"]
    sections = [
        _headline(state, metrics),
        _table(metrics),
        _structure(metrics["structure"]),
        _cells(metrics["structure"]["cells"]),
        _proof(metrics),
        _provenance(state, metrics),
        _loading(),
    ]
    return _page(f"{name} at {metrics['budget']}", "".join(sections))


def render_overview(state: Mapping[str, Any], rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The report of several budgets: rows are (sub-folder, metrics)."""
    name = state["config"]["model"]
    dense = rows[0][1]["dense"]
    points = [(m["pruned"].get("latency_ms"), m["pruned"].get("accuracy")) for _, m in rows]
    picture = ""
    if dense.get("accuracy") is not None and all(None not in point for point in points):
        picture = "<h2>Accuracy over latency</h2>" + scatter(
            [(x, y, m["budget"]) for (x, y), (_, m) in zip(points, rows)],
            (dense["latency_ms"], dense["accuracy"], "dense"),
        )
    head = "".join(
        f"<th>{label}</th>"
        for label in (
            "budget",
            "budget ms",
            "predicted",
            "measured",
            "speed-up",
            "accuracy",
            "proof",
        )
    )
    body = "".join(
        f"<tr><td><a href='{escape(folder)}/report.html'>{escape(m['budget'])}</a></td>"
        f"<td>{_ms(m['budget_ms'])}</td><td>{_ms(m['pruned'].get('predicted_ms'))}</td>"
        f"<td>{_spread(m['pruned'])}</td><td>{_speedup(m)}</td>"
        f"<td>{_percent(m['pruned'].get('accuracy'))}</td><td>{_status(m['solver'])}</td></tr>"
        for folder, m in rows
    )
    text = (
        f"<h1>{escape(name)}</h1><p class='soft'>{escape(str(rows[0][1]['device']))}</p>"
        f"<p>Dense: {_spread(dense)} ms, accuracy {_percent(dense.get('accuracy'))}.</p>"
        f"<div class='wide'><table><tr>{head}</tr>{body}</table></div>{picture}"
    )
    return _page(f"{name}: {len(rows)} budgets", text)


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def _headline(state: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    dense, pruned = metrics["dense"], metrics["pruned"]
    measured = pruned.get("latency_ms")
    shown = measured if measured is not None else pruned["predicted_ms"]
    word = "measured" if measured is not None else "predicted, not measured"
    tiles = [
        (f"{_ms(dense['latency_ms'])} → {_ms(shown)} ms", f"dense → pruned, {word}"),
        (_speedup(metrics), f"faster; the budget was {_ms(metrics['budget_ms'])} ms"),
    ]
    if pruned.get("accuracy") is not None:
        label = f"accuracy; dense {_percent(dense.get('accuracy'))}"
        reference = dense.get("accuracy_after_same_finetune")
        if reference is not None:
            label += f", {_percent(reference)} after the same fine-tune"
        tiles.append((_percent(pruned["accuracy"]), label))
    tiles.append((_status(metrics["solver"]), f"gap {metrics['solver']['gap']:.2g}"))
    cards = "".join(
        f"<div class='tile'><b>{escape(b)}</b><span>{escape(s)}</span></div>" for b, s in tiles
    )
    return (
        f"<h1>{escape(state['config']['model'])} at {escape(metrics['budget'])}</h1>"
        f"<p class='soft'>{escape(str(metrics['device']))}</p><div class='tiles'>{cards}</div>"
    )


def _table(metrics: Mapping[str, Any]) -> str:
    dense, pruned = metrics["dense"], metrics["pruned"]
    rows = [
        ("latency measured, ms (median ± interquartile range)", _spread(dense), _spread(pruned)),
        ("timed runs", dense.get("runs", "–"), pruned.get("runs", "–")),
        ("latency predicted, ms", "", _ms(pruned["predicted_ms"])),
        ("parameters", f"{dense['parameters']:,}", f"{pruned['parameters']:,}"),
        (
            "accuracy as cut",
            _percent(dense.get("accuracy")),
            _percent(pruned.get("accuracy_before_finetune")),
        ),
    ]
    if pruned.get("accuracy_repaired") is not None:
        rows.append(("accuracy repaired", "", _percent(pruned["accuracy_repaired"])))
    reference = dense.get("accuracy_after_same_finetune")
    rows.append(
        ("accuracy after fine-tuning", _percent(reference), _percent(pruned.get("accuracy")))
    )
    body = "".join(f"<tr><td>{a}</td><td>{b}</td><td>{c}</td></tr>" for a, b, c in rows)
    return (
        "<h2>Asked and got</h2><div class='wide'><table><tr><th></th><th>dense</th><th>pruned</th>"
        f"</tr>{body}</table></div>"
    )


def _structure(structure: Mapping[str, Any]) -> str:
    rows = [(_dim(dim), dim["kept"], dim["size"]) for dim in structure["dims"]]
    text = (
        "<h2>Structure</h2><p class='soft'>Channels that stay of every Dim (a set of coupled "
        f"channels), in the network's order.</p>{bars(rows)}"
    )
    if structure["blocks"]:
        gone = sum(not block["kept"] for block in structure["blocks"])
        chips = "".join(
            f"<span class='chip{'' if b['kept'] else ' gone'}'>{escape(b['name'])}</span>"
            for b in structure["blocks"]
        )
        text += (
            f"<p class='soft' style='margin-top:1rem'>Removable blocks: {gone} of "
            f"{len(structure['blocks'])} dropped.</p><div class='chips'>{chips}</div>"
        )
    return text


def _dim(dim: Mapping[str, Any]) -> str:
    name, kind = str(dim["name"]), str(dim["kind"])
    return name if name.endswith(f".{kind}") else f"{name} ({kind})"


def _cells(cells: Sequence[Mapping[str, Any]]) -> str:
    shown = sorted(cells, key=lambda cell: -cell["dense_ms"])[:48]
    names = {cell["name"] for cell in shown}
    rows = [(c["name"], c["dense_ms"], c["pruned_ms"]) for c in cells if c["name"] in names]
    rest = f" The {len(shown)} slowest of {len(cells)}." if len(shown) < len(cells) else ""
    return (
        "<h2>Where the time goes</h2><p class='soft'>Milliseconds of every cell (a layer with what "
        f"the engine fuses into it) before and after, by the latency table.{rest}</p>{pairs(rows)}"
    )


def _proof(metrics: Mapping[str, Any]) -> str:
    solver = metrics["solver"]
    rows = [
        ("status", f"{_status(solver)}: {solver['advice']}"),
        (
            "importance kept",
            f"{solver['value']:.6g}, and at most {solver['bound']:.6g} is possible",
        ),
        ("gap", f"{solver['gap']:.3g}"),
        ("budget in the last solve", f"{_ms(solver['budget_ms'])} ms"),
        ("solve time", f"{solver['seconds']:.2f} s, {solver['method']}"),
    ]
    body = "".join(f"<tr><td>{a}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    text = f"<h2>Proof</h2><div class='wide'><table class='text'>{body}</table></div>"
    if metrics.get("check"):
        rounds = "".join(
            f"<tr><td>{k}</td><td>{_ms(r['predicted_ms'])}</td><td>{_ms(r['measured_ms'])}</td>"
            f"<td>{100 * (r['measured_ms'] / r['predicted_ms'] - 1):+.1f}%</td></tr>"
            for k, r in enumerate(metrics["check"], 1)
        )
        text += (
            "<p class='soft' style='margin-top:1rem'>Each structure was timed end to end on the "
            "device, and the table corrected by it before the next solve.</p>"
            "<div class='wide'><table>"
            "<tr><th>round</th><th>predicted ms</th><th>measured ms</th><th>off by</th></tr>"
            f"{rounds}</table></div>"
        )
    return text


def _provenance(state: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    config, identity = state["config"], state["identity"]
    versions = ", ".join(f"{name} {version}" for name, version in state["versions"].items())
    rows = [
        ("network", f"{identity['model']}, input {'x'.join(map(str, identity['input']))}"),
        ("weights", f"{identity['weights'] or 'random'} (state {identity['digest'][:12]})"),
        ("device", str(metrics["device"])),
        ("latency table", metrics["table"]),
        ("importance", f"{config['score']['criterion']}, data {config['data'] or 'none'}"),
        ("fine-tune", metrics.get("finetune", "none")),
        ("seed", str(config["seed"])),
        ("versions", versions),
    ]
    body = "".join(f"<tr><td>{a}</td><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<h2>Where it comes from</h2><div class='wide'><table class='text'>{body}</table></div>"


def _loading() -> str:
    return (
        "<h2>Use it</h2><p>No source of the network is needed, and no pickle is read.</p><pre>"
        'import pruner\n\nnetwork = pruner.load("RUN")   # this folder: a torch.nn.Module\n'
        "outputs = network(images)</pre>"
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _spread(side: Mapping[str, Any]) -> str:
    if side.get("latency_ms") is None:
        return "–"
    spread = side.get("spread_ms")
    return _ms(side["latency_ms"]) + (f" ± {spread:.2g}" if spread is not None else "")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _speedup(metrics: Mapping[str, Any]) -> str:
    measured = metrics["pruned"].get("latency_ms")
    return "–" if measured is None else f"{metrics['dense']['latency_ms'] / measured:.2f}×"


def _status(solver: Mapping[str, Any]) -> str:
    return "proven optimal" if solver["status"] == "optimal" else str(solver["status"])
