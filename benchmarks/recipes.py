"""Parameters and operations of each recipe: `python -m benchmarks.recipes` prints the table of docs/recipes.md."""

import sys
from typing import Any

from catsdogs.config.recipes import RECIPES, Recipe
from catsdogs.training.devices import Devices, start

HEAD = """\
| recipe | parameters | images in training | GFLOP an image, forward | images when used | GFLOP an image when used |
|---|---|---|---|---|---|"""


def flops(model: Any, image_size: int) -> int:
    """Floating-point operations for one image, forward: a multiplication and an addition are two."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    images = tf.TensorSpec((1, image_size, image_size, 3), tf.float32)
    traced = tf.function(lambda images: model(images, training=False)).get_concrete_function(images)
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    ).with_empty_output()
    graph = convert_variables_to_constants_v2(traced).graph
    return int(tf.compat.v1.profiler.profile(graph, options=options.build()).total_float_ops)


def row(recipe: Recipe, devices: Devices) -> str:
    from catsdogs.training.step import Learner

    learner = Learner(recipe, recipe.image_size, recipe.learning_rate, 0, devices, 1)
    size, used = recipe.image_size, recipe.image_size
    if recipe.augmentation is not None:
        size = recipe.augmentation.scaled(size)
    cells = (
        f"`{recipe.name}`", f"{learner.model.count_params():,}", f"{size}×{size}",
        f"{flops(learner.training_model, size) / 1e9:.2f}", f"{used}×{used}", f"{flops(learner.model, used) / 1e9:.2f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table() -> str:
    """A line for each recipe, under HEAD."""
    devices = start(require_gpu=False)
    return "\n".join([HEAD, *(row(recipe, devices) for recipe in RECIPES.values())])


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
