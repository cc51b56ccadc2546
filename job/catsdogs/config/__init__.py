"""What a run is configured with: settings, recipes, optional dependencies."""
