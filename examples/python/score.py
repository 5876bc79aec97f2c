"""Rows → anomaly scores, with a network in ONNX and its manifest: what a car computes.

    f      features within ±clip
    r      f - output of the network, within ±12 of the larger residualScale, averaged over the last smoothingRows rows
    z      (r - residualCenter) / residualScale, per input; below the center / residualScaleBelow where there is one
    score  root of the order `order` (4 or 8) of the mean of z to the power of `order`; with `shift` in the manifest the
           greater of this and the same of f itself instead of r, times its weight; with `standstill` that of a signal which
           shows the very same value for too long, if it is greater

Where a signal was not seen the network runs twice: with 0 there, and then with what it expects there.
"""

import numpy as np
import onnxruntime
from features import network_input, spans, standardise

ROW_LIMIT = 12
KNOWN = {"order", "smoothingRows", "residualCenter", "residualScale", "residualScaleBelow", "shift", "standstill"}
KNOWN_SHIFT = {"smoothingRows", "center", "scale", "scaleBelow", "weight"}


class Network:
    """Rows of features → rows of the same, through onnxruntime on one core."""

    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options)
        (given,) = self.session.get_inputs()
        self.input = given.name

    def run(self, rows):
        # scikit-learn's converter ends with the shape [rows * values, 1].
        return np.asarray(self.session.run(None, {self.input: rows})[0], dtype=np.float64).reshape(len(rows), -1)


def moving_mean(values, rows):
    """Means over the last `rows` rows, of what was seen (not NaN), from the oldest to the newest."""
    out = len(values) - rows + 1
    total, seen = np.zeros((out, values.shape[1])), np.zeros((out, values.shape[1]))
    for k in range(rows):
        part = values[k : k + out]
        ok = ~np.isnan(part)
        total += np.where(ok, part, 0)
        seen += ok
    with np.errstate(all="ignore"):
        return total / seen


def residuals(manifest, network, values, limits):
    """Features of one span within ±clip, and what the network makes of them subtracted; each one row per full window."""
    spec = manifest["features"]
    features = standardise(spec, values)
    given = network_input(spec, features)
    output = network.run(given)
    unseen = np.isnan(features)
    again = unseen.any(axis=1)
    if again.any():
        # A zero would tell the other outputs something that is not so.
        expected = network_input(spec, output[again], nan=np.nan)
        output[again] = network.run(np.where(unseen[again], expected, given[again]))
    clipped = np.where(unseen, np.nan, given)
    off = np.clip(clipped - output, -limits, limits)
    # A network that is broken must not look like one that finds everything normal.
    off[~np.isfinite(output.sum(axis=1))] = np.inf
    return clipped, off


def fuse(averages, center, scale, below, order):
    """Inputs that were not seen count as normal. `scale` is that above the center."""
    off = averages - center
    with np.errstate(all="ignore"):
        z = off / np.where(off < 0, below, scale)
    return np.nan_to_num(z**order, nan=0.0, posinf=np.inf).mean(axis=1) ** (1 / order)


def standstill(spec, values, count_max):
    """Of rows of one span: by which of its rows without a change a signal is stuck, times the weight; 0 before."""
    after, counts = np.array(spec["afterRows"]), np.zeros(values.shape, int)
    rest = np.array([np.nan if value is None else value for value in spec.get("restAt", [None] * len(after))])
    for row in range(1, len(values)):
        stands = (values[row] == values[row - 1]) & (values[row] != rest)
        counts[row] = np.where(stands, np.minimum(counts[row - 1] + 1, count_max), 0)
    stuck = (after > 0) & (counts >= after)
    return spec["weight"] * np.where(stuck, counts / np.maximum(after, 1), 0).max(axis=1)


def scores(manifest, network, times, values):
    """One score per row of a vehicle; NaN while the windows fill, and again after a gap."""
    spec, score = manifest["features"], manifest["score"]
    unknown = (set(score) - KNOWN) | (set(score.get("shift", {})) - KNOWN_SHIFT)
    if unknown:
        raise ValueError(f"this program does not know {sorted(unknown)} of the manifest's score")
    center, scale = np.array(score["residualCenter"]), np.array(score["residualScale"])
    below = np.array(score.get("residualScaleBelow", scale))
    limits = ROW_LIMIT * np.maximum(scale, below)
    smoothing, shift, order = score["smoothingRows"], score.get("shift"), score.get("order", 4)
    first = spec["windowRows"] + smoothing - 2
    found = np.full(len(times), np.nan)
    for begin, end in spans(times, spec["gapMs"]):
        if end - begin <= first:
            continue
        features, off = residuals(manifest, network, values[begin:end], limits)
        result = fuse(moving_mean(off, smoothing), center, scale, below, order)
        if shift is not None:
            # What moves all signals together fits the network well.
            moved = moving_mean(features, shift["smoothingRows"])[smoothing - shift["smoothingRows"] :]
            above = np.array(shift["scale"])
            moved = fuse(moved, np.array(shift["center"]), above, np.array(shift.get("scaleBelow", above)), order)
            result = np.maximum(result, shift["weight"] * moved)
        if "standstill" in score:
            stands = standstill(score["standstill"], values[begin:end].astype(np.float32), first)
            result = np.maximum(result, stands[first:])
        found[begin + first : end] = result
    return found


def self_test_rows(manifest, seed, count=8):
    """The rows by which a car proves a model: they follow from the manifest and a seed, so both sides can make them.

    Value of signal s in row t = base + 3 · spread · u. base and spread are center and scale of the first input of s that is
    a mean, a minimum, a maximum or a value; of another input 0 and |center| + scale. u is the next number of
    x ← 1664525 x + 1013904223 mod 2³², as x / 2³¹ - 1; where the top four bits of x are 0, the signal is not seen.
    """
    spec, signals = manifest["features"], len(manifest["signalSet"]["signals"])
    rows = spec["windowRows"] + manifest["score"]["smoothingRows"] - 2 + count
    base, spread = np.zeros(signals), np.zeros(signals)
    for signal in range(signals):
        inputs = [given for given in spec["inputs"] if given["signal"] == signal]
        place = [given for given in inputs if given["statistic"] in ("mean", "min", "max", "value")]
        if place:
            base[signal], spread[signal] = place[0]["center"], place[0]["scale"]
        elif inputs:
            spread[signal] = abs(inputs[0]["center"]) + inputs[0]["scale"]
    values, x = np.empty(rows * signals), seed
    for i in range(len(values)):
        x = (x * 1664525 + 1013904223) % 2**32
        values[i] = np.nan if x >> 28 == 0 else base[i % signals] + 3 * spread[i % signals] * (x / 2**31 - 1)
    times = np.arange(rows) * spec["gapMs"] / 2
    return times, values.astype(np.float32).reshape(rows, signals)
