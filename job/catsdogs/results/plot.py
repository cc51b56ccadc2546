"""history.png: accuracy and loss over the epochs."""

from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catsdogs.config.history import HistoryRow
from catsdogs.results.tables import Curve, curves
from catsdogs.runtime.formatting import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's vermilion and blue, which differ for every kind of colour vision, and in grey.
TRAINING_COLOUR, VALIDATION_COLOUR, INK, FAINT = "#d55e00", "#0072b2", "#222222", "#8a8a8a"
STYLE: dict[Any, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "axes.grid.axis": "y",
    "axes.titlelocation": "left",
    "axes.titlepad": 26,
    "grid.color": "#e4e4e4",
    "legend.borderpad": 0,
    "legend.handlelength": 1.4,
    "text.parse_math": False,  # a title may hold dollar signs
}


def history_png(path: Path, history: Sequence[HistoryRow], best_epoch: int, title: str) -> None:
    """Draw accuracy and loss over the epochs, 1500 x 660 pixels; the same arguments give the same bytes.

    One of the rows is that of `best_epoch`. Values that are not finite are left out of the curves. Raises OSError.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the plot
        matplotlib.rcParams.update(STYLE)
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1, wspace=0.04)
        figure = Figure(figsize=(10, 4.4), dpi=150, layout=layout)
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, fontweight="bold")
        left, right = figure.subplots(1, 2)
        _draw_panel(left, "accuracy", history, best_epoch, percent, ceiling=1)
        left.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.6g} %")
        _draw_panel(right, "loss", history, best_epoch, lambda loss: f"{loss:.4f}", ceiling=inf)
        figure.savefig(path, format="png", metadata={"Software": None})


def _draw_panel(
    axes: "Axes",
    curve: Curve,
    history: Sequence[HistoryRow],
    best_epoch: int,
    text_of: Callable[[float], str],
    ceiling: float,
) -> None:
    epochs = [row["epoch"] for row in history]
    training, validation = curves(history, curve)
    best = validation[epochs.index(best_epoch)]
    dot = max(3.0, 6.0 - len(epochs) / 40)
    axes.axvline(best_epoch, color=FAINT, linewidth=1, zorder=1)
    axes.plot(epochs, training, "o", color=TRAINING_COLOUR, ms=dot, markeredgewidth=0, label="training")
    axes.plot(epochs, validation, color=VALIDATION_COLOUR, linewidth=2, label="validation")
    axes.plot(best_epoch, best, "D", color=VALIDATION_COLOUR, ms=8, markeredgecolor="white", zorder=4)
    margin = _set_limits(axes, epochs, ceiling)

    # Names and the best value are above the frame, where no curve can cross them.
    axes.set_title(curve.capitalize())
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 1.085), ncols=2)
    across = (best_epoch - epochs[0] + margin) / (epochs[-1] - epochs[0] + 2 * margin)
    axes.annotate(
        f"best epoch {best_epoch}: {text_of(best)}",
        (best_epoch, 1.015),
        xycoords=axes.get_xaxis_transform(),
        ha="left" if across < 0.2 else "right" if across > 0.8 else "center",
        color=VALIDATION_COLOUR,
        fontweight="bold",
    )


def _set_limits(axes: "Axes", epochs: Sequence[int], ceiling: float) -> float:
    """Set the limits of both axes, and the epochs' ticks. Return the margin beside the first and the last epoch."""
    from matplotlib.ticker import MaxNLocator

    first, last = epochs[0], epochs[-1]
    margin = max(0.5, len(epochs) / 50)
    axes.set_xlim(first - margin, last + margin)
    ticks = MaxNLocator(nbins=8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]).tick_values(first, last)
    axes.set_xticks([tick for tick in ticks if first <= tick <= last])
    axes.set_xlabel("epoch")
    low, high = axes.get_ylim()
    lack = max(0.0, 0.1 - (high - low)) / 2  # or the noise of a flat curve would fill the panel
    axes.set_ylim(max(low - lack, min(low, 0)), min(high + lack, max(high, ceiling)))
    return margin
