"""What train_digits.py and train_digits_torch.py share: the data, the beginning, and the course of the training."""

import pathlib

import numpy as np

DATA = pathlib.Path(__file__).resolve().parent / "data"
TRAINED = 1257  # the images before this one are for training, the 540 others are held out
HIDDEN, BATCH, EPOCHS, RATE, MOMENTUM = 32, 64, 20, 0.05, 0.9


class Generator:
    """Knuth's 64-bit linear congruential generator: the same numbers in any language."""

    def __init__(self, seed):
        self.state = seed

    def uniform(self):
        """In [0, 1), from the upper 53 bits."""
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 11) / 2**53

    def matrix(self, rows, columns):
        """Uniform within 1 / sqrt(rows) of 0, as torch.nn.Linear has it."""
        values = [2 * self.uniform() - 1 for _ in range(rows * columns)]
        return np.array(values).reshape(rows, columns) / np.sqrt(rows)

    def permutation(self, count):
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = int(self.uniform() * (last + 1))
            order[last], order[other] = order[other], order[last]
        return order


def load():
    """Images in [0, 1] and classes."""
    return np.load(DATA / "digits_images.npy") / 16, np.load(DATA / "digits_classes.npy")


def begin(generator):
    """Weights and biases of the two layers."""
    return [generator.matrix(64, HIDDEN), np.zeros(HIDDEN), generator.matrix(HIDDEN, 10), np.zeros(10)]
