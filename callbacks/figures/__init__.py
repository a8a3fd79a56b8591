"""Drawing helpers that the figure callbacks share."""
