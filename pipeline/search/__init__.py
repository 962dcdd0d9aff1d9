"""Search over settings, Ray-free: which trial runs next, who pauses, who is promoted, and what came of it.

    space       search.space → how each setting is drawn, and what values it has
    samplers/   (seed, number of the draw, journal) → the settings of a new trial: random, grid, tpe
    schedulers/ reports at rungs → who continues, pauses, is promoted: none, asha, median, hyperband, asha_stopping, pbt
    journal     search.jsonl, the one truth: draws, reports, decisions, ends; standing: what its records add up to
    engine      the records so far → the next action, and the records that it makes; nothing else is remembered
    leaderboard the results: leaderboard.csv and best.yaml

``pipeline.cluster`` drives the engine with Ray Tune; a replay of recorded curves drives the same engine.
"""
