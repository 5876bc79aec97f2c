"""unpack-wheel.py WHEEL DEPS: TensorFlow's libraries and C headers out of a Python wheel, as tfjs-node looks for them."""

import os
import shutil
import sys
import zipfile

wheel, deps = sys.argv[1:]
LIBRARIES = {"libtensorflow_cc.so.2": "libtensorflow", "libtensorflow_framework.so.2": "libtensorflow_framework"}
# What the headers of the C API include.
HEADERS = ("tensorflow/", "xla/tsl/", "tsl/")
# The version of the library that tfjs-node was made for is in the name that it looks for.
NAMED = ".so.2.9.1"

with zipfile.ZipFile(wheel) as files:

    def put(name, to):
        to = os.path.join(deps, to)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        with files.open(name) as source, open(to, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    for library, name in LIBRARIES.items():
        put("tensorflow/" + library, "lib/" + library)
        for suffix in (".so", NAMED):
            os.symlink(library, os.path.join(deps, "lib", name + suffix))
    prefix = "tensorflow/include/"
    for name in files.namelist():
        if name.startswith(tuple(prefix + part for part in HEADERS)) and name.endswith(".h"):
            put(name, "include/" + name[len(prefix) :])
