"""Writes golden.json anew: networks as their own exporters write them, and what onnxruntime gives for some rows.

    python3 make-golden.py sklearn torch      # what is not named stays as it is in the file
    python3 make-golden.py keras              # TensorFlow wants an environment of its own

Packages: onnx and onnxruntime with scikit-learn and skl2onnx, torch and onnxscript, tensorflow-cpu and tf2onnx.
"""

import base64
import json
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

GOLDEN = os.path.join(os.path.dirname(__file__), "golden.json")
INPUTS = 6
random = np.random.default_rng(20260101)
X = random.normal(size=(200, INPUTS))
ROWS = random.uniform(-4, 4, size=(8, INPUTS)).astype(np.float32)
cases = {}


def case(name, tool, path):
    """The files that an exporter wrote, and what they compute."""
    session = onnxruntime.InferenceSession(path)
    (given,) = session.get_inputs()
    rows = ROWS.astype(np.float64 if given.type == "tensor(double)" else np.float32)
    # One row at a time: some exporters fix how many there are. skl2onnx ends with the shape [rows * values, 1].
    outputs = [session.run(None, {given.name: row[None]})[0].ravel().tolist() for row in rows]
    # Exporters note the source lines of whoever ran them.
    model = onnx.load(path, load_external_data=False)
    for part in [model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info,
                 *model.graph.input, *model.graph.output]:  # fmt: skip
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    onnx.save(model, path)
    folder = os.path.dirname(path)
    files = {f: base64.b64encode(open(os.path.join(folder, f), "rb").read()).decode() for f in sorted(os.listdir(folder))}
    cases[name] = {"tool": tool, "file": os.path.basename(path), "files": files, "rows": ROWS.tolist(), "outputs": outputs}


def folder_file():
    return os.path.join(tempfile.mkdtemp(), "model.onnx")


def sklearn():
    import skl2onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tool = f"skl2onnx {skl2onnx.__version__}"

    def network(activation):
        return MLPRegressor(hidden_layer_sizes=(8, 4, 8), activation=activation, max_iter=30, random_state=1)

    shifted = X * [1, 2, 3, 4, 5, 6] + [6, 5, 4, 3, 2, 1]
    models = {
        "tanh": network("tanh").fit(X, X),
        "relu": network("relu").fit(X, X),
        "logistic": network("logistic").fit(X, X),
        "scaler": make_pipeline(StandardScaler(), network("tanh")).fit(shifted, X),
    }
    for name, model in models.items():
        for kind, tensor in (("float", FloatTensorType), ("double", DoubleTensorType)):
            converted = skl2onnx.convert_sklearn(model, initial_types=[("features", tensor([None, INPUTS]))], target_opset=13)
            path = folder_file()
            with open(path, "wb") as file:
                file.write(converted.SerializeToString())
            case(f"scikit-learn {name}, {kind}", tool, path)


def torch():
    import torch

    torch.manual_seed(1)
    layers = torch.nn

    class Normalised(layers.Module):
        """Normalises in the graph, and computes in 2-D as PyTorch users write it."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.register_buffer("mean", torch.linspace(-1, 1, INPUTS))
            self.register_buffer("deviation", torch.linspace(0.5, 2, INPUTS))

        def forward(self, x):
            return self.inner((x - self.mean) / self.deviation) * self.deviation + self.mean

    plain = layers.Sequential(
        layers.Linear(INPUTS, 8), layers.Tanh(), layers.Dropout(0.1), layers.Linear(8, 4), layers.Sigmoid(),
        layers.Linear(4, 8), layers.ReLU(), layers.Flatten(), layers.Linear(8, INPUTS, bias=False),
    ).eval()  # fmt: skip
    batch = layers.Sequential(layers.Linear(INPUTS, 8), layers.BatchNorm1d(8), layers.Tanh(), layers.Linear(8, INPUTS))
    batch(torch.tensor(X, dtype=torch.float32))
    networks = {"plain": plain, "batch norm": batch.eval(), "normalised": Normalised(plain).eval()}
    rows = torch.tensor(ROWS[:1])
    for name, network in networks.items():
        for exporter, options in {
            "TorchScript exporter": dict(dynamo=False, opset_version=13, dynamic_axes={"features": {0: "rows"}}),
            "TorchScript exporter, unfolded": dict(dynamo=False, opset_version=13, do_constant_folding=False),
            "exporter": dict(dynamo=True),
            "exporter, one file": dict(dynamo=True, external_data=False),
        }.items():
            path = folder_file()
            torch.onnx.export(network, (rows,), path, input_names=["features"], output_names=["out"], **options)
            case(f"PyTorch {name}, {exporter}", f"torch {torch.__version__}", path)


def keras():
    import tensorflow as tf
    import tf2onnx

    tf.random.set_seed(1)
    layers = tf.keras.layers
    scaled = layers.Normalization()
    scaled.adapt(X * [1, 2, 3, 4, 5, 6] + [6, 5, 4, 3, 2, 1])
    networks = {
        "plain": [layers.Dense(8, "tanh"), layers.Dense(4, "relu"), layers.Dropout(0.1), layers.Dense(INPUTS)],
        "normalised": [scaled, layers.Dense(8, "sigmoid"), layers.Dense(INPUTS)],
    }
    for name, stack in networks.items():
        inputs = tf.keras.Input((INPUTS,), name="features")
        row = inputs
        for layer in stack:
            if isinstance(layer, layers.Dense):
                layer.bias_initializer = tf.keras.initializers.RandomNormal(seed=1)
            row = layer(row)
        model = tf.keras.Model(inputs, row)
        path = folder_file()
        model.output_names = ["out"]  # which tf2onnx asks for, and Keras 3 does not have
        signature = [tf.TensorSpec((None, INPUTS), tf.float32, name="features")]
        tf2onnx.convert.from_keras(model, signature, opset=13, output_path=path)
        case(f"Keras {name}", f"tf2onnx {tf2onnx.__version__}, tensorflow {tf.__version__}", path)


if os.path.exists(GOLDEN):
    with open(GOLDEN, encoding="utf-8") as file:
        cases = json.load(file)
for source in sys.argv[1:]:
    {"sklearn": sklearn, "torch": torch, "keras": keras}[source]()
with open(GOLDEN, "w", encoding="utf-8") as file:
    json.dump(dict(sorted(cases.items())), file, indent=1)
    file.write("\n")
