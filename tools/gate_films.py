"""Changes and spoils chest films, for the gate's classifier to be fitted to.

Pure functions of a grey film uint8 [H, W] and a NumPy generator; they return another film.
"""

import cv2
import numpy as np

from tools.gate_pictures import SIZE, leaves, smooth, to_uint8


def mild(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes a film as another hospital may store it; each change is drawn on its own.

    Mirrored (the gate takes either side), with plain bands beside it, turned by up to 16 degrees,
    zoomed, shifted, cropped, in other tone, range, sharpness, noise, compression and resolution,
    with an opacity, letters and lines, and in bars.
    """
    if rng.random() < 0.5:
        grey = grey[:, ::-1]
    if rng.random() < 0.2:
        top, bottom, left, right = (int(b) for b in rng.integers(0, 2, 4) * rng.integers(1, 50, 4))
        band = int(rng.choice([0, 0, 255]))
        grey = np.pad(grey, ((top, bottom), (left, right)), constant_values=band)
    height, width = grey.shape
    if rng.random() < 0.6:
        angle = rng.uniform(-16, 16) if rng.random() < 0.6 else 0.0
        zoom = np.exp(rng.uniform(-0.15, 0.15))
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, zoom)
        shift = rng.uniform(-0.07, 0.07, 2) * (width, height)
        turn = turn + np.stack([np.zeros(2), np.zeros(2), shift], 1)
        grey = _warp(grey, np.vstack([turn, [0, 0, 1]]), rng)
    if rng.random() < 0.4:
        grey = _cropped(grey, rng)
    if rng.random() < 0.1:
        tiles = (int(rng.integers(2, 9)),) * 2
        grey = cv2.createCLAHE(clipLimit=float(rng.uniform(1, 4)), tileGridSize=tiles).apply(grey)
    values: np.ndarray = grey / 255.0
    if rng.random() < 0.2:
        values = _clouded(values, rng)
    if rng.random() < 0.5:
        values = values ** np.exp(rng.uniform(-1, 1))
    if rng.random() < 0.4:
        values = (values - values.mean()) * rng.uniform(0.3, 1.3) + values.mean()
    if rng.random() < 0.3:
        values = values + 0.3 * smooth(rng, 3, values.shape)
    if rng.random() < 0.2:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.3, 2.0))
    if rng.random() < 0.3:
        values = values + rng.normal(0, rng.uniform(0.01, 0.06), values.shape)
    grey = to_uint8(values)
    if rng.random() < 0.1:  # a small copy
        small = int(rng.integers(48, 128))
        grey = cv2.resize(grey, (small, small), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.3:
        grey = _marked(grey, rng)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(10, 60))]
        _, data = cv2.imencode(".jpg", grey, quality)
        grey = np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))
    if rng.random() < 0.2:
        bars = (rng.integers(0, 2, 2) * rng.integers(1, 80, 2)).astype(int)
        grey = np.pad(
            grey, ((bars[0],) * 2, (bars[1],) * 2), constant_values=int(255 * rng.integers(2))
        )
    return grey


def _cropped(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Takes a rim away, as collimation does: a little above, more below and at the sides."""
    height, width = grey.shape
    top, bottom, left, right = rng.uniform(0, (0.08, 0.15, 0.12, 0.12)) * rng.integers(0, 2, 4)
    rows = slice(round(top * height), round((1 - bottom) * height))
    return np.ascontiguousarray(grey[rows, round(left * width) : round((1 - right) * width)])


def _clouded(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lays one to three bright clouds over a film, as consolidation and effusions do."""
    rows, columns = np.indices(values.shape)
    height, width = values.shape
    for _ in range(int(rng.integers(1, 4))):
        y, x = rng.uniform(0.2, 0.95) * height, rng.uniform(0.1, 0.9) * width
        reach = rng.uniform(0.06, 0.22, 2) * (height, width)
        cloud = np.exp(-(((rows - y) / reach[0]) ** 2) - ((columns - x) / reach[1]) ** 2)
        values = values + rng.uniform(0.2, 0.9) * cloud * (rng.uniform(0.6, 1.0) - values)
    return values


def _marked(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Writes letters at the rim, or draws lines, as markers, arrows, tubes and wires look."""
    grey = np.ascontiguousarray(grey)
    height, width = grey.shape
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0, 0.9) * width, rng.choice([0.1, 0.95, rng.uniform(0.1, 0.9)]) * height
        shade = int(rng.choice([0, 180, 255, 255]))
        if rng.random() < 0.6:
            text = "".join(rng.choice(list("RLAPXMS12:/ "), int(rng.integers(1, 9))))
            size = float(rng.uniform(0.2, 0.8)) * height / 256
            cv2.putText(grey, text, (int(x), int(y)), 0, size, shade, int(rng.integers(1, 3)))
        else:
            points = np.cumsum(rng.normal(0, 0.09, (12, 2)) + rng.normal(0, 0.05, 2), 0)
            points = (points * (width, height) + (x, y)).astype(np.int32)
            cv2.polylines(grey, [points], False, shade, int(rng.integers(1, 3)), cv2.LINE_AA)
    return grey


def _warp(grey: np.ndarray, matrix_3x3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Warps a film in perspective; what comes in is black, white or the edge's values."""
    height, width = grey.shape
    fill = int(rng.integers(3))
    border = cv2.BORDER_REPLICATE if fill == 2 else cv2.BORDER_CONSTANT
    return cv2.warpPerspective(
        grey, matrix_3x3, (width, height), borderMode=border, borderValue=255 * fill
    )


def part(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cuts out one lung, the upper or lower half, or a small piece of a film."""
    height, width = grey.shape
    kind = rng.random()
    if kind < 0.55:  # one lung, mostly with some of the mediastinum
        y, x = (rng.uniform(0, 0.1), rng.uniform(0.9, 1.0)), (0.0, rng.uniform(0.38, 0.54))
        if rng.random() < 0.3:
            x = (x[1] - rng.uniform(0.3, 0.38), x[1])
        if rng.random() < 0.5:
            x = (1 - x[1], 1 - x[0])
    elif kind < 0.7:
        y, x = (0.0, rng.uniform(0.35, 0.5)), (rng.uniform(0, 0.1), rng.uniform(0.9, 1.0))
        if rng.random() < 0.5:
            y = (1 - y[1], 1 - y[0])
    else:
        side = rng.uniform(0.15, 0.45, 2)
        start = rng.uniform(0, 1 - side)
        y, x = (start[0], start[0] + side[0]), (start[1], start[1] + side[1])
    rows = slice(max(0, round(y[0] * height)), round(y[1] * height))
    columns = slice(max(0, round(x[0] * width)), round(x[1] * width))
    if kind < 0.15:  # the other lung is covered, not cut away
        covered = np.full_like(grey, int(rng.choice([0, 0, 128, 255])))
        covered[rows, columns] = grey[rows, columns]
        return covered
    return np.ascontiguousarray(grey[rows, columns])


def photographed(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photographs a film on a light box or screen, askew: dark or bright, glare, uneven light."""
    height, width = grey.shape
    inset = rng.uniform(0.1, 0.24, (4, 2)) * (width, height)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    matrix = cv2.getPerspectiveTransform(corners, (corners + inward * inset).astype(np.float32))
    room = rng.uniform(0, 0.5) + 0.15 * smooth(rng, int(rng.integers(3, 9)), grey.shape)
    if rng.random() < 0.7:  # furniture
        room = 0.6 * room + 0.4 * leaves(rng, int(rng.integers(3, 40)), grey.shape) / 255.0
    inside = cv2.warpPerspective(np.ones(grey.shape, np.float32), matrix, (width, height))
    film = cv2.warpPerspective(grey / 255.0, matrix, (width, height))
    values = inside * (0.8 * film + 0.1) + (1 - inside) * room
    values = values * (1 + 0.3 * smooth(rng, 3, grey.shape))
    rows, columns = np.indices(grey.shape)
    for _ in range(int(rng.integers(0, 3))):
        distance = np.hypot(rows - rng.uniform(0, height), columns - rng.uniform(0, width))
        values = values + rng.uniform(0.3, 1) * np.exp(-((distance / rng.uniform(8, 50)) ** 2))
    return to_uint8(values + rng.normal(0, 0.02, grey.shape))


def scrambled(grey: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffles a film's tiles, puts films beside one another, or keeps its spectrum alone."""
    grey = cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    kind = rng.integers(3)
    if kind == 0:
        tiles = int(rng.choice([2, 4, 8]))
        side = SIZE // tiles
        grid = grey.reshape(tiles, side, tiles, side).transpose(0, 2, 1, 3)
        order = rng.permutation(tiles * tiles)
        while (order == np.arange(tiles * tiles)).mean() > 0.3:
            order = rng.permutation(tiles * tiles)
        mixed = grid.reshape(-1, side, side)[order].reshape(tiles, tiles, side, side)
        return mixed.transpose(0, 2, 1, 3).reshape(SIZE, SIZE)
    if kind == 1:
        other = cv2.resize(other, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        pair = np.hstack([grey, other])
        if rng.random() < 0.5:
            pair = np.vstack([pair, pair[:, ::-1]])
        return pair
    spectrum = np.abs(np.fft.rfft2(grey - grey.mean()))
    phase = np.angle(np.fft.rfft2(rng.normal(size=grey.shape)))
    plane = np.fft.irfft2(spectrum * np.exp(1j * phase), grey.shape)
    return to_uint8(0.5 + 0.2 * plane / (plane.std() + 1e-9))
