"""Training: devices, the train step, the loop, checkpoints, evaluation, export. Imports TensorFlow."""
