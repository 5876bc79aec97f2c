"""River's learners on the stream of bench/learners.ts: one JSON line per learner with rows, seconds and CPU seconds.

Needs river 0.26 (pip install river).
"""

import csv
import json
import sys
import time

# River's package of data sets writes csv.DictReader[...], which Python 3.11 does not know yet.
csv.DictReader.__class_getitem__ = classmethod(lambda cls, item: cls)

from river import anomaly, cluster, drift  # noqa: E402

SIGNALS = 18
ROWS = int(sys.argv[1])


def stream():
    """The linear congruential generator of bench/learners.ts, from -1 to 1."""
    state = 1
    while True:
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        yield state / 2**31 - 1


numbers = stream()
rows = [{i: next(numbers) for i in range(SIGNALS)} for _ in range(ROWS)]


def measure(name, step):
    # The first row builds what is built on the first row.
    step(rows[0])
    cpu, begun = time.process_time(), time.perf_counter()
    for row in rows:
        step(row)
    seconds = time.perf_counter() - begun
    print(json.dumps(dict(name=name, rows=ROWS, seconds=seconds, cpu=time.process_time() - cpu)), flush=True)


k_means = cluster.KMeans(n_clusters=5, halflife=0.01, seed=1)
measure("k_means", k_means.learn_one)

trees = anomaly.HalfSpaceTrees(
    n_trees=25, height=8, window_size=250, limits={i: (-4, 4) for i in range(SIGNALS)}, seed=1
)


def score_and_learn(row):
    trees.score_one(row)
    trees.learn_one(row)


measure("half_space_trees", score_and_learn)

detectors = [drift.ADWIN() for _ in range(SIGNALS)]


def adwin(row):
    for i, value in row.items():
        detectors[i].update(value)


measure("adwin", adwin)

tests = [drift.PageHinkley() for _ in range(SIGNALS)]


def page_hinkley(row):
    for i, value in row.items():
        tests[i].update(value)


measure("page_hinkley", page_hinkley)
