"""The convnets, their optimizers, and their layers. Imports Keras when a model is built."""
