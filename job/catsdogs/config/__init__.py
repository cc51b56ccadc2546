"""What a run is configured with: settings, recipes, optional dependencies.

Public: `settings.Settings`, whose fields are the table of options (`settings.OPTIONS`, of `option.Option`);
`recipes.RECIPES`; `extras.FORMATS`; `history.HistoryRow`.
"""
