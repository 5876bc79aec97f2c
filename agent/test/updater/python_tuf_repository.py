"""Writes a repository with python-tuf into the folder of the first argument: root 2 of 3, a delegation 2 of 2,
consistent snapshots. With "rotate" as second argument: other keys for all online roles, and a next version of all."""

import json
import pathlib
import sys
from datetime import datetime, timedelta, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

folder = pathlib.Path(sys.argv[1])
(folder / "metadata").mkdir(parents=True)
expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=1)


def signers(n):
    return [CryptoSigner.generate_ed25519() for _ in range(n)]


def write(name, signed, keys):
    metadata = Metadata(signed)
    for key in keys:
        metadata.sign(key, append=True)
    metadata.to_file(str(folder / "metadata" / name))


keys = {"root": signers(3), "targets": signers(1), "snapshot": signers(1), "timestamp": signers(1)}
models = signers(2)
content = b"weights " * 100_000
target = TargetFile.from_data("models/anomaly/7/weights.bin", content, ["sha256", "sha512"])
path = folder / "targets/models/anomaly/7"
path.mkdir(parents=True)
for digest in target.hashes.values():
    (path / f"{digest}.weights.bin").write_bytes(content)


def root(version):
    signed = Root(version=version, expires=expires, consistent_snapshot=True)
    for role, of_role in keys.items():
        for key in of_role:
            signed.add_key(key.public_key, role)
    signed.roles["root"].threshold = 2
    return signed


def publish(version):
    role = DelegatedRole("models", [key.public_key.keyid for key in models], 2, True, ["models/*/*/*"])
    delegations = Delegations({key.public_key.keyid: key.public_key for key in models}, {"models": role})
    write(f"{version}.targets.json", Targets(version=version, expires=expires, delegations=delegations), keys["targets"])
    delegated = Targets(version=version, expires=expires, targets={target.path: target})
    write(f"{version}.models.json", delegated, models)
    meta = {"targets.json": MetaFile(version), "models.json": MetaFile(version)}
    write(f"{version}.snapshot.json", Snapshot(version=version, expires=expires, meta=meta), keys["snapshot"])
    write("timestamp.json", Timestamp(version=version, expires=expires, snapshot_meta=MetaFile(version)), keys["timestamp"])


write("1.root.json", root(1), keys["root"][1:])
publish(1)
if "rotate" in sys.argv[2:]:
    for role in ("targets", "snapshot", "timestamp"):
        keys[role] = signers(1)
    write("2.root.json", root(2), keys["root"][:2])
    publish(2)
print(json.dumps({"sha256": target.hashes["sha256"]}))
