"""A finished run for people and spreadsheets: history.png, history.csv, predictions.csv, report.html."""

import base64
import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from math import inf
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from job.events import duration_text, percent, size_text
from job.measures import wilson_interval

if TYPE_CHECKING:  # evaluation imports TensorFlow, which a report does not need
    from matplotlib.axes import Axes

    from job.evaluation import Prediction

SPLITS = ("train", "validation", "test")
FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy")
HISTORY_COLUMNS = ("epoch", *FIGURES, "seconds")

# Okabe and Ito's vermilion and blue: told apart with every kind of colour vision, and in grey.
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


def history_png(path: Path, history: Sequence[Mapping[str, float]], best_epoch: int, title: str) -> None:
    """Draws accuracy and loss over the epochs, 1500 x 660 pixels; the same arguments give the same bytes.

    Rows have the keys of HISTORY_COLUMNS; one of them has `best_epoch` for its `epoch`. Figures that
    are not finite are left out of the curves. Raises OSError.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the picture
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
    quantity: str,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    text_of: Callable[[float], str],
    ceiling: float,
) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs, training, validation = ([row[key] for row in history] for key in ("epoch", quantity, f"val_{quantity}"))
    first, last, best = epochs[0], epochs[-1], validation[epochs.index(best_epoch)]
    dot = max(3.0, 6.0 - len(epochs) / 40)
    axes.axvline(best_epoch, color=FAINT, linewidth=1, zorder=1)
    axes.plot(epochs, training, "o", color=TRAINING_COLOUR, ms=dot, markeredgewidth=0, label="training")
    axes.plot(epochs, validation, color=VALIDATION_COLOUR, linewidth=2, label="validation")
    axes.plot(best_epoch, best, "D", color=VALIDATION_COLOUR, ms=8, markeredgecolor="white", zorder=4)

    margin = max(0.5, len(epochs) / 50)
    axes.set_xlim(first - margin, last + margin)
    ticks = MaxNLocator(nbins=8, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]).tick_values(first, last)
    axes.set_xticks([tick for tick in ticks if first <= tick <= last])
    axes.set_xlabel("epoch")
    low, high = axes.get_ylim()
    lack = max(0.0, 0.1 - (high - low)) / 2  # or a flat curve's noise would fill the panel
    axes.set_ylim(max(low - lack, min(low, 0)), min(high + lack, max(high, ceiling)))

    # Names and the best value stand above the frame, where no curve can run through them.
    axes.set_title(quantity.capitalize())
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 1.085), ncols=2)
    across = (best_epoch - first + margin) / (last - first + 2 * margin)
    axes.annotate(
        f"best epoch {best_epoch}: {text_of(best)}",
        (best_epoch, 1.015),
        xycoords=axes.get_xaxis_transform(),
        ha="left" if across < 0.2 else "right" if across > 0.8 else "center",
        color=VALIDATION_COLOUR,
        fontweight="bold",
    )


def history_csv(path: Path, history: Iterable[Mapping[str, float]]) -> None:
    """A line an epoch under HISTORY_COLUMNS; a figure read back is the very same float. Raises OSError."""
    figures = HISTORY_COLUMNS[1:]
    rows = ([int(row["epoch"]), *(repr(float(row[name])) for name in figures)] for row in history)
    _write_csv(path, HISTORY_COLUMNS, rows)


def predictions_csv(path: Path, predictions: Iterable["Prediction"]) -> None:
    """A line an image, in the order given; `probability` is that of a dog. Raises OSError."""
    rows = ([one.image, one.truth, repr(float(one.probability)), one.verdict] for one in predictions)
    _write_csv(path, ("image", "truth", "probability", "verdict"), rows)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def report_html(
    path: Path,
    *,
    run: Mapping[str, Any],
    metrics: Mapping[str, Any],
    history: Iterable[Mapping[str, float]],
    quarantined: Iterable[Mapping[str, str]],
    history_image: bytes,
) -> None:
    """One page for people that needs nothing but itself: no script, no other file, no network.

    `run` and `metrics` are what run.json and metrics.json hold, `history` has the keys of HISTORY_COLUMNS,
    `quarantined` those of split.json, `history_image` is history.png. Raises OSError.
    """
    test, confusion = metrics["test"], metrics["test"]["confusion"]
    low, high = wilson_interval(test["correct"], test["images"])
    durations = {name: duration_text(seconds) for name, seconds in metrics["seconds"].items()}
    facts = {**run["device"], **durations}
    if metrics.get("peak_memory_bytes"):
        facts["peak memory"] = size_text(metrics["peak_memory_bytes"])
    splits = [(name, percent(metrics[name]["accuracy"]), f"{metrics[name]['loss']:.4f}") for name in SPLITS]
    verdicts = [
        (truth, *(f"{row[name]:,} ({percent(row[name] / max(1, sum(row.values())))})" for name in confusion))
        for truth, row in confusion.items()
    ]
    left_out = [(item["member"], item["reason"], item.get("replaced_by")) for item in quarantined]
    epochs = [
        (f"{row['epoch']:.0f}", *(f"{row[name]:.4f}" for name in FIGURES), f"{row['seconds']:.1f}") for row in history
    ]
    texts = {
        "run_id": run["run_id"],
        "accuracy": percent(test["accuracy"]),
        "interval": f"{percent(low)} to {percent(high)}",
        "correct": f"{test['correct']:,}",
        "images": f"{test['images']:,}",
        "best_epoch": str(metrics["best_epoch"]),
        "epochs": str(metrics["epochs"]),
    }
    tables = {part: _table((), run[part].items()) for part in ("settings", "versions", "archive")}
    tables["facts"] = _table((), facts.items())
    tables["confusion"] = _table(("", *(f"called {name}" for name in confusion)), verdicts, "figures")
    tables["splits"] = _table(("", "accuracy", "loss"), splits, "figures")
    tables["left_out"] = _table(("member", "reason", "replaced by"), left_out) if left_out else "<p>None.</p>"
    tables["by_epoch"] = _table(HISTORY_COLUMNS, epochs, "figures")
    image = base64.b64encode(history_image).decode()
    page = PAGE.substitute(tables, image=image, **{name: escape(text) for name, text in texts.items()})
    path.write_text(page, encoding="utf-8")


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]], kind: str = "facts") -> str:
    """HTML; everything in it is escaped, a row's first cell names it, None becomes a dash."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    lines = [f"<tr>{head}</tr>"] if heads else []
    for name, *cells in rows:
        values = "".join(f"<td>{'–' if cell is None else escape(str(cell))}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{escape(str(name))}</th>{values}</tr>')
    return f'<div class="wide"><table class="{kind}">{"".join(lines)}</table></div>'


PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$run_id: $accuracy test accuracy</title>
<style>
:root { color-scheme: light; --ink: #222; --soft: #5c5c5c; --line: #ddd; --paper: #fff; --accent: #0072b2 }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark;
  --ink: #e8e8e8; --soft: #a8a8a8; --line: #3a3d42; --paper: #17191c; --accent: #56b4e9 } }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1, h2 { line-height: 1.2; margin: 2rem 0 .6rem } h1 { font-size: 1.4rem } h2 { font-size: 1.1rem }
h1 + p { font-size: 4rem; font-weight: 700; line-height: 1; margin: 0; color: var(--accent) }
img { width: 100%; min-width: 36rem; height: auto; background: #fff; border-radius: .5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top }
tr { border-bottom: 1px solid var(--line) } th { font-weight: 400; color: var(--soft); overflow-wrap: normal }
.wide { overflow-x: auto } .figures td, .figures th[scope=col] { text-align: right; overflow-wrap: normal }
.pair { display: flex; flex-wrap: wrap; gap: 0 4rem } .pair > section { min-width: 15rem }
@media print { body { margin: 0; font-size: .8rem } tr, img { break-inside: avoid } }
</style>
</head>
<body>
<h1>Cats and dogs: run $run_id</h1>
<p>$accuracy</p>
<p>of $images test images, none of them seen in training, were called by their right name: $correct.
The 95 % interval (Wilson) is $interval: the accuracies on other images of this kind that so many images
leave plausible. The model is that of epoch $best_epoch of $epochs, the best on the validation images.</p>
<div class="wide"><img src="data:image/png;base64,$image" width="1500" height="660"
  alt="Accuracy and loss, training and validation, over $epochs epochs; the best, $best_epoch, is marked">
</div>
<div class="pair">
<section><h2>Truth and verdict, test images</h2>$confusion</section>
<section><h2>The model on each split</h2>$splits</section>
</div>
<h2>Images left out</h2>$left_out
<h2>Archive</h2>$archive
<div class="pair">
<section><h2>Settings</h2>$settings</section>
<section><h2>Versions</h2>$versions<h2>Device, time, memory</h2>$facts</section>
</div>
<h2>Every epoch</h2>$by_epoch
</body>
</html>
""")
