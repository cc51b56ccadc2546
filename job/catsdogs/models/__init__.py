"""The convnets, their optimizers, and their layers. Imports Keras when a model is built.

Public: the convnets and optimizers of `convnets`; `batch_normalization.fused` and `unfused`; `muon.Muon`; and
`protocols`, the types of models, optimizers and variables, which Keras does not have.
"""
