"""Charts of a run, drawn with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixloader.errors import MixloaderError

try:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as missing:  # here, so that who imports this module before a long run is told before it
    raise MixloaderError(f"the curves need matplotlib ({missing}): pip install 'mixloader[demo]'") from missing


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, drawn without a screen."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    figure.savefig(path, dpi=130)


def draw_curves(runs: list[dict[str, Any]], shared: dict[str, Any], path: Path) -> None:
    """Write a PNG: the training loss of every run by cost, and the shares of one run by epoch.

    Args:
        runs: as in the demo's result.json: `policy`, `epochs` and `history`, whose epochs have `loss`, `cost` and
            `shares`.
        shared: the run whose shares are shown.
        path: where the picture goes.
    """
    figure = new_figure(11, 4.2)
    losses, shares = figure.subplots(1, 2)
    _draw_losses(losses, runs)
    _draw_shares(shares, shared)
    save_figure(figure, path)


def _draw_losses(axes: Any, runs: list[dict[str, Any]]) -> None:
    for run in runs:
        spent, total = [], 0.0
        for epoch in run["history"]:
            total += epoch["cost"]
            spent.append(total / 1000)
        axes.plot(
            spent, [epoch["loss"] for epoch in run["history"]], "o-", label=f"{run['policy']}, {run['epochs']} epochs"
        )
    axes.set(
        xlabel="whole-image passes, thousands",
        ylabel="mean training loss as drawn",
        title="Loss by cost (each point is an epoch)",
        yscale="log",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()


def _draw_shares(axes: Any, run: dict[str, Any]) -> None:
    history = run["history"]
    levels = sorted({share for epoch in history for share in epoch["shares"]})
    bottom = [0.0] * len(history)
    palette = colormaps["viridis"]
    for level in levels:
        counts = [epoch["shares"].get(level, 0) for epoch in history]
        height = [100 * count / sum(epoch["shares"].values()) for count, epoch in zip(counts, history, strict=True)]
        axes.bar(
            range(1, len(history) + 1),
            height,
            bottom=bottom,
            color=palette(0.95 - 0.8 * level),
            edgecolor="white",
            label="sat out" if level == 0 else f"{level:.2f}",
        )
        bottom = [b + h for b, h in zip(bottom, height, strict=True)]
    axes.set_xticks(range(1, len(history) + 1))
    axes.set(xlabel="epoch", ylabel="samples, %", title=f"{run['policy']}: share of a whole canvas", ylim=(0, 100))
    axes.legend(title="share", loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", reverse=True)
