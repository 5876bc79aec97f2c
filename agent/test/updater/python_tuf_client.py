"""Downloads a target with python-tuf's client: folder, 1.root.json, address of the registry, name of the target."""

import pathlib
import sys

from tuf.ngclient import Updater

folder, root, url, name = sys.argv[1:]
for sub in ("metadata", "targets"):
    pathlib.Path(folder, sub).mkdir()
updater = Updater(
    metadata_dir=f"{folder}/metadata",
    metadata_base_url=f"{url}/v1/tuf/",
    target_dir=f"{folder}/targets",
    target_base_url=f"{url}/v1/targets/",
    bootstrap=pathlib.Path(root).read_bytes(),
)
updater.refresh()
target = updater.get_targetinfo(name)
if target is None:
    sys.exit(f"no target {name}")
print(updater.download_target(target))
