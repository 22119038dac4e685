"""Copies of one image: exact by content, near by a perceptual hash."""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from jaxlung.preprocess import is_lung, to_canvas
from jaxlung.system.digests import digest_example

SIDE = 16  # the hash keeps SIDE x SIDE low frequencies without the constant one: 255 bits
BITS = SIDE * SIDE - 1
NEAR = 38  # bits of 255 (15 %): docs/reference/data_check.md has the evidence
_HASHED = 128  # pixels: `hash_image` takes 1.3 ms, and differs by 12 bits at most from 256
_ROWS = 256  # hashes compared with all others at a time: bounds the memory


class Duplicates(NamedTuple):
    """Images that are copies of one another."""

    members: tuple[int, ...]  # ascending, at least two
    bits: int  # the largest distance that links them, of BITS; 0 may still be exact
    is_exact: bool  # every member has the same content
    change: str  # "", "mirrored" or "inverted": what the closest match of some pair needed


def digest_canvas(image_SxS: np.ndarray, mask_SxSxC: np.ndarray) -> str:
    """Returns `digest_example` of a canvas and of its masks of 0 and 1; a single one is [S, S]."""
    mask = mask_SxSxC[..., 0] if mask_SxSxC.shape[-1] == 1 else mask_SxSxC
    return digest_example(image_SxS, is_lung(mask).astype(np.uint8))


def standardise(grey_SxS: np.ndarray) -> np.ndarray:
    """Takes brightness and contrast out of each neighbourhood.

    Args:
        grey_SxS: uint8 [S, S].

    Returns:
        float32 [S, S]: the difference to the local mean over the local standard deviation, both
        within a Gaussian of 3/32 of the side (plus 4 grey levels, so that noise is not raised).
    """
    values = grey_SxS.astype(np.float32)
    sigma = 3 / 32 * grey_SxS.shape[0]
    values -= cv2.GaussianBlur(values, (0, 0), sigma)
    deviation = np.sqrt(np.maximum(cv2.GaussianBlur(values * values, (0, 0), sigma), 0))
    return values / (deviation + 4)


def perceptual_hash(standardised_SxS: np.ndarray) -> np.ndarray:
    """Hashes the signs of the lowest frequencies.

    Re-encoding, resizing and exposure hardly change them.

    Args:
        standardised_SxS: as `standardise` returns it, S at least 64.

    Returns:
        uint8 [32]: BITS bits, packed, and a last one of 0.
    """
    small = cv2.resize(standardised_SxS, (64, 64), interpolation=cv2.INTER_AREA)
    return np.packbits(np.append(cv2.dct(small)[:SIDE, :SIDE].ravel()[1:] > 0, False))


def hash_image(image: np.ndarray) -> str:
    """Hashes an image for data.json, whatever size and fit the network has.

    Args:
        image: as `preprocess.to_canvas` takes it.

    Returns:
        the `perceptual_hash` of its 128x128 pixels, in base64: 44 characters.

    Example:
        >>> film = np.tile(np.arange(160) ** 2 % 251, (200, 1)).astype(np.uint8)
        >>> known = [hash_image(film)]
        >>> len(known[0]), find_copies([hash_image(film.astype(np.uint16) * 9)], known).tolist()
        (44, [0])
    """
    grey_SxS, _, _ = to_canvas(image, size=_HASHED, fit="stretch")
    return base64.b64encode(perceptual_hash(standardise(grey_SxS)).tobytes()).decode()


def read_hashes(texts: Sequence[str]) -> np.ndarray:
    """Reads what `hash_image` returned, uint8 [N, 32]."""
    return np.frombuffer(bytearray().join(map(base64.b64decode, texts)), np.uint8).reshape(-1, 32)


def find_copies(texts: Sequence[str], known: Sequence[str], limit: int = NEAR) -> np.ndarray:
    """Finds the image that each of N images is a copy of, perhaps mirrored or in negative.

    Args:
        texts: of `hash_image`, N.
        known: of `hash_image`, of the images that may have been copied.
        limit: bits of BITS.

    Returns:
        int [N], the nearest one's index in known; -1 where none is within the limit.
    """
    found_N = np.full(len(texts), -1)
    if not known:
        return found_N
    known_Mx4 = _to_words(read_hashes(known))
    for i, hash_1x32 in enumerate(read_hashes(texts)[:, None]):
        changed_3x32 = np.concatenate([hash_1x32, mirror_hash(hash_1x32), invert_hash(hash_1x32)])
        bits_3xM = np.bitwise_count(_to_words(changed_3x32)[:, None] ^ known_Mx4).sum(-1)
        if bits_3xM.min() <= limit:
            found_N[i] = bits_3xM.min(0).argmin()
    return found_N


def _to_words(hashes_Nx32: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(hashes_Nx32).view(np.uint64)


def mirror_hash(hashes_Nx32: np.ndarray) -> np.ndarray:
    """Returns the hashes of the mirrored images: odd horizontal frequencies change sign."""
    is_odd = np.append(np.arange(1, SIDE * SIDE) % SIDE % 2 == 1, False)
    return hashes_Nx32 ^ np.packbits(is_odd)


def invert_hash(hashes_Nx32: np.ndarray) -> np.ndarray:
    """Returns the hashes of the images in negative: every frequency changes sign."""
    return hashes_Nx32 ^ np.packbits(np.append(np.ones(BITS, bool), False))


def find_duplicates(
    hashes_Nx32: np.ndarray, digests: Sequence[str], limit: int = NEAR
) -> list[Duplicates]:
    """Groups images of equal content, and images whose hashes differ in at most `limit` bits.

    Args:
        hashes_Nx32: uint8, as `perceptual_hash` gives them.
        digests: of each image's content, N.
        limit: bits of BITS.

    Returns:
        the groups, closest first; an image is in one group at most.
    """
    # Not above: these imports take a third of a second, and training has no need of them.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first_of = {digest: i for i, digest in reversed(list(enumerate(digests)))}
    unique = np.array(sorted(first_of.values()), int)
    links: dict[tuple[int, int], tuple[int, str]] = {
        (first_of[digest], i): (0, "") for i, digest in enumerate(digests) if first_of[digest] != i
    }
    for i, j, bits, change in _near_pairs(hashes_Nx32[unique], limit):
        links[int(unique[i]), int(unique[j])] = (bits, change)
    if not links:
        return []
    rows, columns = np.array(list(links)).T
    count = len(digests)
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(count, count))
    _, label_N = connected_components(graph, directed=False)
    groups: dict[int, list[tuple[int, int]]] = {}
    for pair in links:
        groups.setdefault(int(label_N[pair[0]]), []).append(pair)
    found = []
    for pairs in groups.values():
        members = tuple(sorted({i for pair in pairs for i in pair}))
        found.append(
            Duplicates(
                members,
                max(links[pair][0] for pair in pairs),
                len({digests[i] for i in members}) == 1,
                max(links[pair][1] for pair in pairs),
            )
        )
    return sorted(found, key=lambda group: (not group.is_exact, group.bits, group.members))


def _near_pairs(hashes_Nx32: np.ndarray, limit: int) -> list[tuple[int, int, int, str]]:
    """Lists (i, j, bits, change) of each pair i < j within the limit."""
    words_Nx4 = _to_words(hashes_Nx32)
    found: dict[tuple[int, int], tuple[int, str]] = {}
    for change, transform in (("", None), ("mirrored", mirror_hash), ("inverted", invert_hash)):
        changed = hashes_Nx32 if transform is None else transform(hashes_Nx32)
        changed_Nx4 = _to_words(changed)
        for start in range(0, len(words_Nx4), _ROWS):
            rows = words_Nx4[start : start + _ROWS]
            bits_RxN = np.zeros((len(rows), len(words_Nx4) - start), np.uint16)
            for word in range(words_Nx4.shape[1]):  # one word at a time keeps the arrays small
                bits_RxN += np.bitwise_count(rows[:, word, None] ^ changed_Nx4[None, start:, word])
            for i, j in zip(*np.nonzero(bits_RxN <= limit), strict=True):
                pair, bits = (start + int(i), start + int(j)), int(bits_RxN[i, j])
                if pair[0] < pair[1]:
                    found.setdefault(pair, (bits, change))
    return [(i, j, bits, change) for (i, j), (bits, change) in found.items()]
