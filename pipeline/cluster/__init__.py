"""The only place that imports Ray: prepare with Ray Data, train with Ray Train, search with Ray Tune, submit."""
