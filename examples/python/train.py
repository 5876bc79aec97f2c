"""Trains an autoencoder on telemetry straight from Kafka, and writes model.onnx and manifest.json for Cardan.

    python3 train.py --out model
    npx cardan-cloud models import model/model.onnx --manifest model/manifest.json
"""

import argparse
import json
import pathlib
from datetime import UTC, datetime

import numpy as np
from features import network_input, spans, standardise, statistics
from score import Network, fuse, moving_mean, residuals, scores, self_test_rows
from telemetry import consumer, decode, pinned, read, rows_of, signal_sets, topic

# As Cardan's own trainer has them.
WINDOW_ROWS, SMOOTHING_ROWS, CLIP, GAP_MS, ORDER = 5, 30, 5.0, 5000, 8
ROWS_SHOWN, EPOCHS_MIN, EPOCHS_MAX, BATCH_ROWS, LEARNING_RATE = 100_000, 4, 120, 50, 0.003
MASK_CHANCE, NOISE = 0.05, 0.05
# A row weighs at most so many standard deviations in the calibration: sensors have glitches.
ROW_LIMIT = 10
SPREAD_MIN, PEAK_SPREADS, THRESHOLD_FACTOR = 0.02, 4, 1.25
ROWS_MIN = 300


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("model"), help="folder for the two files")
    parser.add_argument("--with", dest="library", choices=["sklearn", "torch"], default="sklearn")
    parser.add_argument("--signal-set", help="default: the one with most rows")
    parser.add_argument("--from", dest="begin", help="only rows from this time on (RFC 3339)")
    parser.add_argument("--to", dest="end", help="only rows before this time (RFC 3339)")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def load(options):
    """The rows that are asked for, and where they come from."""
    kafka = consumer("python-trainer")
    offsets = pinned(kafka, topic("telemetry"))
    batches = {}
    for record in read(kafka, topic("telemetry"), offsets):
        batch = decode(record)
        if batch is not None:
            batches.setdefault(batch.signal_set, []).append(batch)
    if not batches:
        raise SystemExit("The topic telemetry has no rows. Let the fleet drive first.")
    rows = {signal_set: sum(len(batch.times) for batch in of_set) for signal_set, of_set in batches.items()}
    signal_set = options.signal_set or max(rows, key=rows.get)
    if signal_set not in batches:
        raise SystemExit(f"There are no rows of the signal set {signal_set}; there are: {rows}")
    vehicles, copies = rows_of(batches[signal_set])
    begin, end = (milliseconds(text) for text in (options.begin, options.end))
    vehicles = {vehicle: within(*of_vehicle, begin, end) for vehicle, of_vehicle in vehicles.items()}
    vehicles = {vehicle: of_vehicle for vehicle, of_vehicle in vehicles.items() if len(of_vehicle[0]) > 0}
    signals = signal_sets(kafka)[signal_set]
    kafka.close()
    return {"id": signal_set, "signals": signals}, vehicles, copies, offsets


def milliseconds(text):
    return None if text is None else datetime.fromisoformat(text).timestamp() * 1000


def within(times, values, begin, end):
    ok = (times >= (begin if begin is not None else -np.inf)) & (times < (end if end is not None else np.inf))
    return times[ok], values[ok]


def split(vehicles):
    """Every fourth vehicle is held back; of a single vehicle the last quarter of its time. Never single rows."""
    names = sorted(vehicles)
    if len(names) == 1:
        times, values = vehicles[names[0]]
        at = len(times) * 3 // 4
        return [(times[:at], values[:at])], [(times[at:], values[at:])]
    held_back = names[::4]
    return [vehicles[n] for n in names if n not in held_back], [vehicles[n] for n in held_back]


def choose_inputs(vehicles):
    """The mean of each signal that is seen in most rows and changes."""
    windows = [
        statistics(values[begin:end], WINDOW_ROWS)["mean"]
        for times, values in vehicles
        for begin, end in spans(times, GAP_MS)
        if end - begin >= WINDOW_ROWS
    ]
    means = np.concatenate(windows) if windows else np.empty((0, 1))
    if len(means) < ROWS_MIN:
        raise SystemExit(f"There are {len(means)} usable rows without gaps; a model needs {ROWS_MIN}.")
    inputs = []
    for signal in range(means.shape[1]):
        column = means[np.isfinite(means[:, signal]), signal]
        if len(column) < 0.9 * len(means):
            continue
        center, scale = float(column.mean()), float(column.std())
        if scale > 1e-6 * abs(center) and scale > 0:
            inputs.append({"signal": signal, "statistic": "mean", "center": center, "scale": scale})
    if not inputs:
        raise SystemExit("No signal changes in these rows.")
    return inputs


def features_of(spec, vehicles):
    return np.concatenate(
        [
            network_input(spec, standardise(spec, values[begin:end]))
            for times, values in vehicles
            for begin, end in spans(times, GAP_MS)
            if end - begin >= WINDOW_ROWS
        ]
    )


def corrupted(rows, random):
    """A denoising autoencoder is shown rows with some inputs hidden and noise on the others."""
    noisy = rows + NOISE * random.standard_normal(rows.shape)
    return np.where(random.random(rows.shape) < MASK_CHANCE, 0, noisy).astype(np.float32)


def sizes_of(width):
    outer = -(-4 * width // 3)
    return [outer, -(-outer // 2), outer]


def epochs_of(rows):
    return min(EPOCHS_MAX, max(EPOCHS_MIN, round(ROWS_SHOWN / rows)))


def train_sklearn(rows, seed, path):
    import sklearn
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.neural_network import MLPRegressor

    random = np.random.default_rng(seed)
    network = MLPRegressor(
        hidden_layer_sizes=sizes_of(rows.shape[1]),
        activation="tanh",
        learning_rate_init=LEARNING_RATE,
        batch_size=BATCH_ROWS,
        random_state=seed,
    )
    for _ in range(epochs_of(len(rows))):
        network.partial_fit(corrupted(rows, random), rows)
    given = [("features", FloatTensorType([None, rows.shape[1]]))]
    path.write_bytes(convert_sklearn(network, initial_types=given, target_opset=13).SerializeToString())
    return f"scikit-learn {sklearn.__version__}", network.loss_


def train_torch(rows, seed, path):
    import torch

    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    sizes = [rows.shape[1], *sizes_of(rows.shape[1]), rows.shape[1]]
    layers = []
    for given, units in zip(sizes, sizes[1:], strict=False):
        layers += [torch.nn.Linear(given, units), torch.nn.Tanh()]
    network = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs_of(len(rows))):
        order = random.permutation(len(rows))
        given, wanted = torch.from_numpy(corrupted(rows, random)[order]), torch.from_numpy(rows[order])
        total = 0.0
        for at in range(0, len(rows), BATCH_ROWS):
            part = slice(at, at + BATCH_ROWS)
            loss = torch.nn.functional.mse_loss(network(given[part]), wanted[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(given[part])
    example = torch.zeros(2, rows.shape[1])
    rows_axis = {0: torch.export.Dim("rows")}
    torch.onnx.export(
        network.eval(), (example,), path, input_names=["features"], output_names=["reconstruction"],
        dynamic_shapes=(rows_axis,), external_data=False, verbose=False,
    )  # fmt: skip
    return f"torch {torch.__version__}", total / len(rows)


def calibrate(manifest, network, held_back):
    """Spread of the residuals, and threshold, from vehicles that the network has not seen."""
    width = len(manifest["features"]["inputs"])
    limits = np.full(width, float(ROW_LIMIT))
    averages = [
        moving_mean(residuals(manifest, network, values[begin:end], limits)[1], SMOOTHING_ROWS)
        for times, values in held_back
        for begin, end in spans(times, GAP_MS)
        if end - begin >= WINDOW_ROWS + SMOOTHING_ROWS - 1
    ]
    rows = np.concatenate(averages) if averages else np.empty((0, width))
    if len(rows) < ROWS_MIN / 2:
        raise SystemExit(f"There are {len(rows)} held-back rows; {ROWS_MIN // 2} are needed.")
    center = np.nan_to_num(np.nanmean(rows, axis=0))
    off = np.abs(rows - center)
    # All inputs have about the same extremes, so that one that jumps now and then does not set the threshold.
    spread = np.maximum(np.sqrt(np.nanmean(off**2, axis=0)), np.nanmax(off, axis=0) / PEAK_SPREADS)
    spread = np.maximum(np.nan_to_num(spread), SPREAD_MIN)
    return center, spread, float(fuse(rows, center, spread, spread, ORDER).max()), len(rows)


def main():
    options = arguments()
    signal_set, vehicles, copies, offsets = load(options)
    training, held_back = split(vehicles)
    spec = {"windowRows": WINDOW_ROWS, "gapMs": GAP_MS, "clip": CLIP, "inputs": choose_inputs(training)}
    rows = features_of(spec, training)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "model.onnx"
    train = {"sklearn": train_sklearn, "torch": train_torch}[options.library]
    library, loss = train(rows, options.seed, path)

    # From here on the network is the file, as whoever gets it will have it.
    network = Network(path)
    manifest = {"signalSet": signal_set, "features": spec}
    center, spread, highest, held_back_rows = calibrate(manifest, network, held_back)
    times = [of_vehicle[0] for of_vehicle in vehicles.values()]
    manifest |= {
        "score": {
            "order": ORDER,
            "smoothingRows": SMOOTHING_ROWS,
            "residualCenter": center.tolist(),
            "residualScale": spread.tolist(),
        },
        # The fewer vehicles there are, the less the highest of their scores says of the next.
        "alarm": {"threshold": THRESHOLD_FACTOR * (1 + 1 / len(vehicles)) * highest},
        "lineage": {
            "topic": "telemetry",
            "offsets": {str(p): {"from": begin, "to": end} for p, (begin, end) in offsets.items()},
            "span": {"from": iso(min(t[0] for t in times)), "to": iso(max(t[-1] for t in times))},
            "rows": sum(len(t) for t in times),
            "vehicles": len(vehicles),
            "duplicatesDropped": copies,
            "seed": options.seed,
            "hyperParameters": {
                "epochs": epochs_of(len(rows)),
                "batchRows": BATCH_ROWS,
                "learningRate": LEARNING_RATE,
                "maskChance": MASK_CHANCE,
                "noise": NOISE,
                "thresholdFactor": THRESHOLD_FACTOR,
            },
            "codeVersion": library,
        },
        "metrics": {
            "loss": float(loss),
            "training_rows": len(rows),
            "held_back_rows": held_back_rows,
            "held_back_score_max": highest,
        },
    }
    # Cardan computes these scores again, and takes the model only when it comes to the same.
    test = scores(manifest, network, *self_test_rows(manifest, options.seed))
    manifest["selfTest"] = {"seed": options.seed, "scores": test[np.isfinite(test)].tolist()}
    (options.out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    print(
        f"{len(vehicles)} vehicles, {manifest['lineage']['rows']} rows, {len(spec['inputs'])} inputs, loss {loss:.4f}, "
        f"threshold {manifest['alarm']['threshold']:.3f}: {path}, {options.out / 'manifest.json'}"
    )


def iso(milliseconds):
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


main()
