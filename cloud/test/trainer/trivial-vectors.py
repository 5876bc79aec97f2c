"""Writes trivial-vectors.json: what NumPy and scikit-learn say of a few rows, for trivial-detectors.test.ts.

Run with numpy and scikit-learn: python3 cloud/test/trainer/trivial-vectors.py
"""

import json
from pathlib import Path

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA

ROWS, WIDTH, RESOLUTION = 200, 6, 0.02

random = np.random.default_rng(7)
mixing = random.normal(size=(3, WIDTH))
rows = random.normal(size=(ROWS, 3)) @ mixing + 0.3 * random.normal(size=(ROWS, WIDTH)) + 2
rows = rows.astype(np.float32).astype(float)

covariance = EmpiricalCovariance().fit(rows)
off = rows - covariance.location_
# Every direction has the sensors' resolution on top.
noisy = np.linalg.inv(covariance.covariance_ + RESOLUTION**2 * np.eye(WIDTH))
distance = np.sqrt(np.einsum("ri,ij,rj->r", off, noisy, off))

pca = PCA(n_components=0.95, svd_solver="full").fit(rows)
along = pca.transform(rows)
# scikit-learn divides by rows - 1, a trainer by rows.
variances = pca.explained_variance_ * (ROWS - 1) / ROWS
t2 = (along**2 / (variances + RESOLUTION**2)).sum(axis=1)
q = ((rows - pca.inverse_transform(along)) ** 2).sum(axis=1)
limit = lambda scores: np.sort(scores)[int(np.ceil(0.99 * ROWS)) - 1]
t2_q = np.maximum(t2 / limit(t2), q / limit(q))

vectors = {
    "width": WIDTH,
    "rows": rows.round(9).tolist(),
    "eigenvalues": np.linalg.eigvalsh(covariance.covariance_)[::-1].tolist(),
    "covariance": covariance.covariance_.tolist(),
    "max_z": (np.abs(off) / rows.std(axis=0)).max(axis=1).tolist(),
    "mahalanobis": distance.tolist(),
    "t2_q": t2_q.tolist(),
}
Path(__file__).with_name("trivial-vectors.json").write_text(json.dumps(vectors))
