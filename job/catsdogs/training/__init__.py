"""Training: devices, the train step, the loop, checkpoints, evaluation, export. Imports TensorFlow.

Public: `devices.start`, `step.Learner`, `loop.Training`, `checkpoints.Checkpoints`, `checkpoints.Mirror`,
`model_file.inspect`, `evaluation.load`, `evaluation.predict`, `export.export`, `predictions.prediction_metrics`.
Importing `devices`, `checkpoints`, `predictions` or `model_file` does not import TensorFlow.
"""
