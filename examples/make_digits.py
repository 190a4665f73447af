#!/usr/bin/env python3
"""Writes data/digits_images.npy and data/digits_classes.npy: scikit-learn's handwritten digits, 1797 images of 8 x 8
with values from 0 to 16, the 1257 that make_data.py trains with before the 540 that it holds out.

    pip install scikit-learn==1.9.1 numpy==2.4.6
    python examples/make_digits.py
"""

import pathlib

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATA = pathlib.Path(__file__).parent / "data"

images, digits = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(
    images, digits, test_size=0.3, random_state=7, stratify=digits)
assert (np.load(DATA / "digits_labels.npy") == test_y).all()
np.save(DATA / "digits_images.npy", np.concatenate([train_x, test_x]).astype(np.uint8))
np.save(DATA / "digits_classes.npy", np.concatenate([train_y, test_y]).astype(np.int64))
