"""The libraries that the plugin uses, imported; nothing of the plugin itself. See `tests.warm`."""

import gc
import importlib
import sys

for name in ("click", "kubernetes.client", "kubernetes.config", "kubernetes.utils.quantity", "yaml"):
    importlib.import_module(name)
assert "kubectl_catsdogs" not in sys.modules
gc.freeze()
