"""Rows → the inputs of the network, as the manifest says: statistics over windows of rows, standardised.

This is what a car computes, in double precision; the tests of Cardan compare the two.
"""

import numpy as np


def spans(times, gap_ms):
    """Begin and end of the parts of a vehicle's rows without a gap: no window reaches over one."""
    passed = np.diff(times)
    cuts = np.flatnonzero((passed < 0) | (passed > gap_ms)) + 1
    return list(zip([0, *cuts], [*cuts, len(times)], strict=True))


def statistics(values, window):
    """Per statistic its value over the last `window` rows, (rows - window + 1) × signals; NaN where there is none.

    `deviation` is that of the population, `slope` that of the line of least squares, per row.
    """
    rows = len(values) - window + 1
    parts = [values[k : k + rows].astype(np.float64) for k in range(window)]
    seen = [np.isfinite(part) for part in parts]
    count = sum(ok.astype(np.float64) for ok in seen)
    with np.errstate(all="ignore"):
        mean = sum(np.where(ok, part, 0) for ok, part in zip(seen, parts, strict=True)) / count
        off = [np.where(ok, part - mean, 0) for ok, part in zip(seen, parts, strict=True)]
        deviation = np.where(count > 1, np.sqrt(sum(o * o for o in off) / count), np.nan)
        middle = sum(k * ok for k, ok in enumerate(seen)) / count
        products = sum((k - middle) * o for k, o in enumerate(off))
        squares = sum(np.where(ok, (k - middle) ** 2, 0) for k, ok in enumerate(seen))
        low = np.min([np.where(ok, part, np.inf) for ok, part in zip(seen, parts, strict=True)], axis=0)
        high = np.max([np.where(ok, part, -np.inf) for ok, part in zip(seen, parts, strict=True)], axis=0)
        return {
            "mean": mean,
            "deviation": deviation,
            "slope": products / squares,
            "min": low,
            "max": high,
            "range": high - low,
        }


def standardise(spec, values):
    """Rows of one span → features, one per input and full window; NaN where the signal was not seen."""
    window = spec["windowRows"]
    found = statistics(values, window)
    columns = []
    for given in spec["inputs"]:
        signal = given["signal"]
        if given["statistic"] == "value":
            # Of one row: so many before the newest of the window.
            begin = window - 1 - given.get("lag", 0)
            column = values[begin : begin + len(values) - window + 1, signal].astype(np.float64)
        elif given["statistic"] == "difference":
            column = values[window - 1 :, signal].astype(np.float64) - values[: len(values) - window + 1, signal]
        elif given["statistic"] == "ratio":
            with np.errstate(all="ignore"):
                column = found["mean"][:, signal] / found["mean"][:, given["over"]]
        else:
            column = found[given["statistic"]][:, signal]
        with np.errstate(all="ignore"):
            column = (column - given["center"]) / given["scale"]
        columns.append(np.where(np.isfinite(column), column, np.nan))
    return np.stack(columns, axis=1)


def network_input(spec, features, nan=0.0):
    """What the network is given: within ±clip, and `nan` where the signal was not seen."""
    return np.nan_to_num(np.clip(features, -spec["clip"], spec["clip"]), nan=nan).astype(np.float32)
