"""A recipe's model with its optimizer, and what one batch does to them.

Each step is a `tf.function` under a `tf.distribute.Strategy`: (batch, totals) → totals, so that one loop
serves one device and several. Totals are a tensor, and are read only when somebody looks at them.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from keras import losses

from catsdogs.config.recipes import Recipe
from catsdogs.data.loader import Batch
from catsdogs.models.batch_normalization import fused, of_keras, rebuilt
from catsdogs.training.checkpoints import Arrays
from catsdogs.training.devices import Devices


class Learner:
    """The same seed gives the same first weights, whatever else the process has done.

    `model` is what is measured and saved: the one that learns, `learning`, or the same weights shown mirror images too.
    `steps` are those of the whole training.
    """

    def __init__(self, recipe: Recipe, image_size: int, learning_rate: float, seed: int, devices: Devices, steps: int):
        self.recipe = recipe
        self.strategy = devices.strategy
        self.workers = devices.workers
        self.replicas = devices.replicas // devices.workers
        self.on_cpu = devices.on_cpu
        self.xla = devices.xla
        with self.strategy.scope():
            self.learning = _made_to_learn(recipe.model(image_size), seed)
            self.model = _mirrored(self.learning, image_size) if recipe.mirrored else self.learning
            self.optimizer = recipe.optimizer(learning_rate, steps)
            self.optimizer.build(self.learning.trainable_variables)
        self._train = self._compiled(self._train_all, self.learning)
        self._test = self._compiled(self._test_all, self.model)
        self._sum = tf.function(self._sum_all, input_signature=[tf.TensorSpec((None,), tf.float32)])

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        # A variable, its copies on several devices, or what a schedule has made.
        return float(tf.convert_to_tensor(self.optimizer.learning_rate).numpy())

    def train_step(self, batch: Batch, totals: Any) -> Any:
        """Learns from the batch, of which each of several workers gives its part; returns totals (sum of losses, right
        answers, images) with it added."""
        return self._train(*self._dealt(batch), totals)

    def test_step(self, batch: Batch, totals: Any) -> Any:
        """Like train_step, but learns nothing."""
        return self._test(*self._dealt(batch), totals)

    def step_bytes(self, images: int) -> int:
        """Of this process's memory, what a training step over that many images adds at the very least.

        The gradients, and each layer's outputs, which are kept until their gradient is known. On a GPU nothing of it
        is this process's. Seen to take 1.7 times as much for the book's convnets.
        """
        if not self.on_cpu:
            return 0
        shapes = [layer.output.shape[1:] for layer in self.learning.layers if layer.weights]
        # What a net for images of any size puts out is not known.
        outputs: int = sum(math.prod(shape) for shape in shapes if None not in shape)
        gradients: int = sum(math.prod(variable.shape) for variable in self.learning.trainable_variables)
        return 4 * (images * outputs + gradients)

    def agreed(self, *wishes: bool) -> list[bool]:
        """Which of the wishes any worker has at this step. Every worker must ask, and gets the same answer."""
        if self.workers == 1:
            return list(wishes)
        return [count > 0 for count in self._sum(np.array(wishes, np.float32)).numpy().tolist()]

    def state(self) -> Arrays:
        """All that training changes: weights, statistics, random generators' states, the optimizer's memory."""
        return [variable.numpy() for variable in self._variables()]

    def restore(self, state: Arrays) -> None:
        """Undoes all that happened since `state` was taken. Raises ValueError if it is not of this recipe."""
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)

    def weights(self) -> Arrays:
        return [variable.numpy() for variable in self.model.weights]

    def set_weights(self, weights: Arrays) -> None:
        self.model.set_weights(weights)

    def save(self, path: Path) -> None:
        """Writes the model as a `.keras` file, ready to predict, of Keras' own layers; the optimizer stays in the
        checkpoints.

        Raises OSError.
        """
        model = rebuilt(self.model, of_keras)
        model.set_weights(self.weights())
        model.save(path)

    def _variables(self) -> list[Any]:
        return [*self.learning.variables, *self.optimizer.variables]

    def _compiled(self, step: Any, model: Any) -> Any:
        """The step for batches of any length, so that an epoch's smaller last one is not compiled again.

        Several workers, whose parts of a batch differ in size, would then wait for each other's collectives under
        different names.
        """
        images, vector = self._of_any_length(model.input_shape[1:]), self._of_any_length(())
        signature = [images, vector, vector, tf.TensorSpec((3,), tf.float64)]
        return tf.function(step, input_signature=signature, jit_compile=self.xla or None)

    def _dealt(self, batch: Batch) -> tuple[Any, Any, Any]:
        """Images, labels and weights, dealt to this worker's replicas in equal parts; what fills these up weighs
        nothing."""
        size = len(batch.labels)
        if self.replicas == 1 and size:
            return batch.images, batch.labels, np.ones(size, np.float32)
        places = np.arange(max(1, -(-size // self.replicas)) * self.replicas)
        weights = (places < size).astype(np.float32)
        if not size:
            # None of the batch's images are of this worker's shard.
            size, batch = 1, Batch(np.zeros((1, *batch.images.shape[1:]), np.float32), np.zeros(1, np.float32))
        return self._deal(batch.images[places % size]), self._deal(batch.labels[places % size]), self._deal(weights)

    def _deal(self, values: Any) -> Any:
        """An array whose length the replicas divide, a part to each."""
        if self.replicas == 1:
            return values
        parts = np.split(values, self.replicas)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group % self.replicas])
        )

    def _of_any_length(self, shape: Sequence[int | None]) -> Any:
        """The signature of what `_deal` makes of an array of any number of values of that shape."""
        spec = tf.TensorSpec((None, *shape), tf.float32)
        if self.replicas == 1:
            return spec
        one = [size or 1 for size in shape]
        dealt = tf.type_spec_from_value(self._deal(np.zeros((self.replicas, *one), np.float32)))
        return type(dealt)(*[spec] * self.replicas)

    def _train_all(self, images: Any, labels: Any, weights: Any, totals: Any) -> Any:
        return totals + self._on_replicas(self._train_one, images, labels, weights)

    def _test_all(self, images: Any, labels: Any, weights: Any, totals: Any) -> Any:
        return totals + self._on_replicas(self._test_one, images, labels, weights)

    def _sum_all(self, values: Any) -> Any:
        return self._on_replicas(lambda own: own, values)

    def _on_replicas(self, step: Any, *values: Any) -> Any:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, self.strategy.run(step, values), axis=None)

    def _train_one(self, images: Any, labels: Any, weights: Any) -> Any:
        count = tf.distribute.get_replica_context().all_reduce("SUM", tf.reduce_sum(weights))
        with tf.GradientTape() as tape:
            counted, loss = self._counted(self.learning, images, labels, weights, training=True)
            # The optimizer adds the replicas' gradients up, so each divides by the images of all.
            loss = loss / count
        variables = self.learning.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return counted

    def _test_one(self, images: Any, labels: Any, weights: Any) -> Any:
        return self._counted(self.model, images, labels, weights, training=False)[0]

    def _counted(self, model: Any, images: Any, labels: Any, weights: Any, training: bool) -> tuple[Any, Any]:
        """The batch's totals as float64, and the sum of its losses, binary cross-entropy, to differentiate."""
        probabilities = model(images, training=training)
        smoothing = self.recipe.label_smoothing if training else 0.0
        loss = losses.binary_crossentropy(labels[:, None], probabilities, label_smoothing=smoothing)
        loss = tf.reduce_sum(weights * loss)
        right = tf.cast((probabilities[:, 0] > 0.5) == (labels > 0.5), tf.float32)
        totals = tf.stack([loss, tf.reduce_sum(weights * right), tf.reduce_sum(weights)])
        return tf.cast(totals, tf.float64), loss


def _mirrored(model: Any, image_size: int) -> Any:
    """A model with the same weights that answers with the mean over an image and its mirror image."""
    from keras import Input, Model, layers, ops

    images = Input((image_size, image_size, 3))
    return Model(images, layers.Average()([model(images), model(ops.flip(images, axis=2))]), name=model.name)


def _made_to_learn(model: Any, seed: int) -> Any:
    """The model with a seed of its own in every initializer and random layer that has none, and with batch
    normalization that trains faster.

    Keras would draw the seeds from Python's `random`, of which boto3's threads draw as well.
    """
    seeds = np.random.default_rng(seed)

    def with_seed(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "seed": int(seeds.integers(2**31))} if part.get("seed", 0) is None else part

    return rebuilt(model, lambda part: fused(with_seed(part)))
