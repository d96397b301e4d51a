"""The stream of training examples: what comes at a position, and the random numbers there, by seed and position alone.

Both are read off the counter-based generator Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3"), so any position is reached at once. NumPy guarantees the bits that Philox gives for a key and a counter.
"""

import threading

import numpy as np

# The second half of Philox's key: what the numbers are for.
ORDER, AUGMENTATION = 0, 1
# The examples of a batch are of one epoch or of neighbouring ones.
EPOCHS_KEPT = 2


class Shuffle:
    """One random permutation of `length` examples after the other.

    Args:
        length: number of examples of an epoch.
        seed: 0 .. 2**64 - 1.
    """

    def __init__(self, length: int, *, seed: int):
        self._length, self._seed = length, seed
        self._lock = threading.Lock()
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> int:
        """The example at a position of the stream, which may be any number of epochs away."""
        epoch, place = divmod(position, self._length)
        # The other threads wait for the one that makes an order: it takes them a tenth of a second for a million.
        with self._lock:
            order = self._orders.get(epoch)
            if order is None:
                while len(self._orders) >= EPOCHS_KEPT:
                    del self._orders[next(iter(self._orders))]
                order = self._orders[epoch] = permutation(self._length, seed=self._seed, epoch=epoch)
        return int(order[place])


def permutation(length: int, *, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, by sorting random numbers: int64 [length], each of 0 .. length - 1 once."""
    numbers = philox(seed, ORDER, epoch).random_raw(length)
    return np.argsort(numbers, kind="stable")


class RandomNumbers(threading.local):
    """The random numbers of each place in the stream; those of no two places overlap.

    Every thread has a generator of its own and moves it: to make one takes several times as long.

    Args:
        seed: 0 .. 2**64 - 1.
    """

    def __init__(self, seed: int):
        bits = philox(seed, AUGMENTATION, 0)
        self._bits, self._start, self._generator = bits, bits.state, np.random.Generator(bits)

    def __getitem__(self, position: int) -> np.random.Generator:
        """The generator of a position, good until the thread asks for the next one."""
        self._start["state"]["counter"][1] = position
        self._bits.state = self._start
        return self._generator


def philox(seed: int, purpose: int, number: int) -> np.random.Philox:
    """Philox with the key (seed, purpose), at 2**64 times `number` in its sequence."""
    return np.random.Philox(key=seed | purpose << 64, counter=number << 64)
