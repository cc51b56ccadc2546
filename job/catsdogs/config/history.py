"""The history of a training: one row per epoch."""

from typing import NotRequired, TypedDict


class HistoryRow(TypedDict):
    epoch: int
    """From 1."""
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    """Of training and validation."""
    rate: NotRequired[float]
    """Training images per second. A history read from history.csv lacks this and what follows."""
    ended: NotRequired[float]
    """Seconds since 1970."""
    learning_rate: NotRequired[float]


History = list[HistoryRow]
