"""Writes river-vectors.json: what River says of streams that the test makes again from their seeds.

    python cloud/test/learner/river-vectors.py > cloud/test/learner/river-vectors.json

Needs river 0.26. The random numbers are those of cloud/src/trainer/seeded-random.ts, to the bit.
"""

import csv
import json
import math

# River's package of data sets writes csv.DictReader[...], which Python 3.11 does not know yet.
csv.DictReader.__class_getitem__ = classmethod(lambda cls, item: cls)

from river import anomaly, cluster, drift  # noqa: E402
from river._river_rust.drift import AdaptiveWindowing  # noqa: E402

WORD = 0xFFFFFFFF


class SeededRandom:
    def __init__(self, seed):
        self.state = seed & WORD

    def uniform(self):
        self.state = (self.state + 0x6D2B79F5) & WORD
        bits = ((self.state ^ (self.state >> 15)) * (1 | self.state)) & WORD
        bits = (bits + (((bits ^ (bits >> 7)) * (61 | bits)) & WORD)) & WORD ^ bits
        return (bits ^ (bits >> 14)) / 2**32

    def normal(self):
        total = self.uniform() + self.uniform() + self.uniform() + self.uniform()
        return (total - 2) * math.sqrt(3)


def levels(seed, rounded):
    """A stream whose mean and spread jump."""
    random = SeededRandom(seed)
    values = []
    for _ in range(6):
        mean = random.uniform() * 6 - 3
        spread = [0.05, 0.5, 2][int(random.uniform() * 3)]
        for _ in range(200 + int(random.uniform() * 2000)):
            value = mean + spread * random.normal()
            values.append(math.floor(value * 2 + 0.5) / 2 if rounded else value)
    return values


ADWIN = [
    dict(delta=0.002, clock=32, max_buckets=5, min_window_length=5, grace_period=10),
    dict(delta=0.05, clock=1, max_buckets=5, min_window_length=5, grace_period=10),
    dict(delta=0.0001, clock=8, max_buckets=9, min_window_length=20, grace_period=100),
    dict(delta=0.002, clock=1, max_buckets=2, min_window_length=1, grace_period=1),
]


def adwin(seed, options):
    detector = AdaptiveWindowing(**options)
    detections, widths = [], []
    values = levels(seed, seed % 3 == 0)
    for i, value in enumerate(values):
        if detector.update(value):
            detections.append(i)
        if i % 101 == 0:
            widths.append(detector.get_width())
    return dict(
        seed=seed,
        options=options,
        values=len(values),
        detections=detections,
        widths=widths,
        total=detector.get_total(),
    )


def page_hinkley(seed, threshold, delta, mode):
    detector = drift.PageHinkley(threshold=threshold, delta=delta, mode=mode)
    detections = []
    for i, value in enumerate(levels(seed, False)):
        detector.update(value)
        if detector.drift_detected:
            detections.append(i)
    return dict(seed=seed, threshold=threshold, delta=delta, mode=mode, detections=detections)


WIDTH = 5


def blobs(random):
    """A row near one of three places."""
    blob = int(random.uniform() * 3)
    return {i: 2 * math.sin(1 + blob * 2.5 + i) + 0.4 * random.normal() for i in range(WIDTH)}


def k_means(seed, rate):
    random = SeededRandom(seed)
    model = cluster.KMeans(n_clusters=3, halflife=rate)
    centers = [[random.normal() for _ in range(WIDTH)] for _ in range(3)]
    for c, center in enumerate(centers):
        model.centers[c].update(enumerate(center))
    assigned = [model.learn_predict_one(blobs(random)) for _ in range(400)]
    return dict(
        seed=seed,
        rate=rate,
        assigned=assigned,
        centers=[[model.centers[c][i] for i in range(WIDTH)] for c in range(3)],
    )


def half_space_trees(seed):
    trees, height, window = 6, 4, 50
    model = anomaly.HalfSpaceTrees(
        n_trees=trees,
        height=height,
        window_size=window,
        limits={i: (-4, 4) for i in range(WIDTH)},
        seed=seed,
    )
    random = SeededRandom(seed)
    scores = []
    for i in range(300):
        row = blobs(random)
        # Now and then a row that is nowhere else.
        if i % 40 == 39:
            row = {c: value + 3 for c, value in row.items()}
        scores.append(model.score_one(row))
        model.learn_one(row)
    columns, thresholds = [], []
    for tree in model.trees:
        nodes = [None, tree]
        for node in range(1, 2**height):
            nodes.extend(nodes[node].children)
        columns += [0] + [nodes[node].feature for node in range(1, 2**height)]
        thresholds += [0] + [nodes[node].threshold for node in range(1, 2**height)]
    return dict(
        seed=seed,
        trees=trees,
        height=height,
        window=window,
        columns=columns,
        thresholds=thresholds,
        scores=scores,
    )


print(
    json.dumps(
        dict(
            adwin=[adwin(seed, options) for seed in range(1, 5) for options in ADWIN],
            pageHinkley=[
                page_hinkley(seed, threshold, delta, mode)
                for seed, threshold, delta, mode in [
                    (1, 50, 0.005, "both"),
                    (2, 5, 0.1, "up"),
                    (3, 20, 0, "down"),
                    (4, 3, 0.5, "both"),
                ]
            ],
            kMeans=[k_means(1, 0.1), k_means(2, 0.5)],
            halfSpaceTrees=[half_space_trees(1), half_space_trees(2)],
        )
    )
)
