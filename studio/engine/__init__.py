"""Jobs, ticks, fairness, pause and cancel. Knows neither torch nor the page."""
