"""`kubectl catsdogs follow`: follows a run to its end.

Public: `follower.follow`, and the two views that it writes to, `view.View` and `view.LiveView`.
"""
