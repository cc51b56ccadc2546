"""A recipe's model with its optimizer, and what one batch does to them.

Each step is a `tf.function` under a `tf.distribute.Strategy`: (batch, totals) → totals, so that one loop
serves one device and several. Totals are a tensor, float64: sum of losses, correct predictions, images. Reading them
waits for the device, so the loop reads them only when it needs them.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras import losses
from numpy.typing import NDArray

from catsdogs.config.recipes import Recipe
from catsdogs.data.loader import Batch
from catsdogs.models import convnets
from catsdogs.models.batch_normalization import fused, unfused
from catsdogs.models.protocols import Model, Variable
from catsdogs.training import model_file
from catsdogs.training.checkpoints import Arrays
from catsdogs.training.devices import Devices

Function = Callable[..., tf.Tensor]
"""A `tf.function`, or what becomes one."""


class Learner:
    """A model, its optimizer, and the steps that train and evaluate it.

    The same seed gives the same first weights, whatever else the process has done.

    `model` is evaluated and saved. It is `training_model`, or the same weights applied to mirror images too.
    `steps` is the number of steps in the whole training.
    """

    def __init__(self, recipe: Recipe, image_size: int, learning_rate: float, seed: int, devices: Devices, steps: int):
        self.recipe = recipe
        self.strategy = devices.strategy
        self.workers = devices.workers
        self.replicas = devices.replicas // devices.workers
        self.on_cpu = devices.on_cpu
        self.xla = devices.xla
        with self.strategy.scope():
            self.training_model = fused(recipe.model(image_size, seed))
            self.model = convnets.mirrored(self.training_model, image_size) if recipe.mirrored else self.training_model
            self.optimizer = recipe.optimizer(learning_rate, steps)
            self.optimizer.build(self.training_model.trainable_variables)
        self._train = self._compiled(self._train_step, self.training_model)
        self._test = self._compiled(self._test_step, self.model)
        self._sum = tf.function(self._sum_over_workers, input_signature=[tf.TensorSpec((None,), tf.float32)])

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        # A variable, its copies on several devices, or the value of a schedule.
        return float(tf.convert_to_tensor(self.optimizer.learning_rate).numpy())

    def train_step(self, batch: Batch, totals: tf.Tensor) -> tf.Tensor:
        """Train on the batch, of which each of several workers passes its part, and return totals with it added."""
        return self._train(*self._padded(batch), totals)

    def test_step(self, batch: Batch, totals: tf.Tensor) -> tf.Tensor:
        """Evaluate `model` on the batch, and return totals with it added."""
        return self._test(*self._padded(batch), totals)

    def step_bytes(self, images: int) -> int:
        """Return a lower bound of the memory, of this process, that a training step over that many images adds.

        The gradients, and each layer's outputs, which are kept until their gradient is computed. 0 on a GPU, which has
        its own memory. The book's convnets were measured to take 1.7 times as much.
        """
        if not self.on_cpu:
            return 0
        shapes = [layer.output.shape[1:] for layer in self.training_model.layers if layer.weights]
        # The sizes of a net that accepts images of any size are unknown.
        outputs: int = sum(math.prod(shape) for shape in shapes if None not in shape)
        gradients = sum(math.prod(variable.shape) for variable in self.training_model.trainable_variables)
        return 4 * (images * outputs + gradients)

    def any_worker(self, *flags: bool) -> list[bool]:
        """Return for each flag whether any worker has set it at this step. All workers must call this, and all get the
        same result."""
        if self.workers == 1:
            return list(flags)
        return [count > 0 for count in self._sum(np.array(flags, np.float32)).numpy().tolist()]

    def state(self) -> Arrays:
        """Return everything that training changes: weights, statistics, states of random generators and optimizer."""
        return [variable.numpy() for variable in self._variables()]

    def kinds(self) -> list[str]:
        """Return what each variable of `state` is: kernel, bias, velocity and so on, the last word of its name.

        The rest of a name depends on how many layers the process has made before.
        """
        return [variable.name.rpartition("_")[2] for variable in self._variables()]

    def restore(self, state: Arrays, kinds: Sequence[str] = ()) -> None:
        """Set everything that training changes.

        Raises ValueError, before anything is set, if `state` has other variables than this model and optimizer, or the
        same in another order, as far as shapes and kinds show it.
        """
        variables = self._variables()
        check_shapes(variables, state)
        for own, kind, variable in zip(self.kinds(), kinds or self.kinds(), variables, strict=True):
            if own != kind:
                raise ValueError(f"{variable.name} was {kind!r}")
        for variable, value in zip(variables, state, strict=True):
            variable.assign(value)

    def weights(self) -> Arrays:
        return [variable.numpy() for variable in self.model.weights]

    def set_weights(self, weights: Arrays) -> None:
        self.model.set_weights(weights)

    def save(self, path: Path) -> None:
        """Write `model`, without optimizer, as a `.keras` file of nothing but Keras' own layers. Raises OSError.

        The same weights are the same bytes.
        """
        model = unfused(self.model)
        model.set_weights(self.weights())
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            model.save(folder, zipped=False)
            model_file.pack(Path(folder), path)

    def _variables(self) -> list[Variable]:
        return [*self.training_model.variables, *self.optimizer.variables]

    def _compiled(self, step: Function, model: Model) -> Function:
        """Return the step, compiled for batches of any size, so that an epoch's smaller last one is not compiled again.

        Several workers, whose parts of a batch differ in size, would then wait for each other's collectives under
        different names.
        """
        images, vector = self._signature(model.input_shape[1:]), self._signature(())
        signature = [images, vector, vector, tf.TensorSpec((3,), tf.float64)]
        compiled: Function = tf.function(step, input_signature=signature, jit_compile=self.xla or None)
        return compiled

    def _padded(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return images, labels and weights, split equally among this worker's replicas; padding has weight 0."""
        size = len(batch.labels)
        if self.replicas == 1 and size:
            return batch.images, batch.labels, np.ones(size, np.float32)
        places = np.arange(max(1, -(-size // self.replicas)) * self.replicas)
        weights = (places < size).astype(np.float32)
        if not size:
            # No image of the batch is in this worker's shard.
            size, batch = 1, Batch(np.zeros((1, *batch.images.shape[1:]), np.float32), np.zeros(1, np.float32))
        return self._split(batch.images[places % size]), self._split(batch.labels[places % size]), self._split(weights)

    def _split(self, values: NDArray[np.float32]) -> tf.Tensor:
        """Return the array, whose length is a multiple of the replicas, with an equal part on each replica."""
        if self.replicas == 1:
            return values
        parts = np.split(values, self.replicas)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group % self.replicas])
        )

    def _signature(self, shape: Sequence[int | None]) -> tf.TypeSpec:
        """Return the type of what `_split` returns for any number of values of that shape."""
        spec = tf.TensorSpec((None, *shape), tf.float32)
        if self.replicas == 1:
            return spec
        one = [size or 1 for size in shape]
        split = tf.type_spec_from_value(self._split(np.zeros((self.replicas, *one), np.float32)))
        return type(split)(*[spec] * self.replicas)

    def _train_step(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, totals: tf.Tensor) -> tf.Tensor:
        return totals + self._sum_over_replicas(self._replica_train_step, images, labels, weights)

    def _test_step(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, totals: tf.Tensor) -> tf.Tensor:
        return totals + self._sum_over_replicas(self._replica_test_step, images, labels, weights)

    def _sum_over_workers(self, values: tf.Tensor) -> tf.Tensor:
        return self._sum_over_replicas(lambda own: own, values)

    def _sum_over_replicas(self, step: Function, *values: tf.Tensor) -> tf.Tensor:
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, self.strategy.run(step, values), axis=None)

    def _replica_train_step(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        count = tf.distribute.get_replica_context().all_reduce("SUM", tf.reduce_sum(weights))
        with tf.GradientTape() as tape:
            probabilities = self.training_model(images, training=True)
            totals, loss = _totals(probabilities, labels, weights, self.recipe.label_smoothing)
            # The optimizer sums the replicas' gradients, so each divides by the images of all replicas.
            loss = loss / count
        variables = self.training_model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return totals

    def _replica_test_step(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        # Smoothed labels are for training only: losses of recipes with and without them must compare.
        return _totals(self.model(images, training=False), labels, weights, label_smoothing=0.0)[0]


def check_shapes(variables: Sequence[Variable], values: Arrays) -> None:
    """Raise ValueError, with one line, if there are not as many values as variables, or of other shapes."""
    if len(variables) != len(values):
        raise ValueError(f"{len(values)} variables instead of {len(variables)}")
    for variable, value in zip(variables, values, strict=True):
        if tuple(variable.shape) != value.shape:
            raise ValueError(f"shape {value.shape} of {variable.name} instead of {tuple(variable.shape)}")


def _totals(
    probabilities: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor, label_smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the totals of a batch, and the sum of its losses (binary cross-entropy) to differentiate."""
    loss = losses.binary_crossentropy(labels[:, None], probabilities, label_smoothing=label_smoothing)
    loss = tf.reduce_sum(weights * loss)
    correct = tf.cast((probabilities[:, 0] > 0.5) == (labels > 0.5), tf.float32)
    totals = tf.stack([loss, tf.reduce_sum(weights * correct), tf.reduce_sum(weights)])
    return tf.cast(totals, tf.float64), loss
