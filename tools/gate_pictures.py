"""Simulates pictures that are no chest films, for the gate's classifier to be fitted to.

Pure functions of a NumPy generator that return grey planes uint8 [SIZE, SIZE] or of a given shape.
Nothing real is used, so that photographs and CT are free to test with.
"""

import cv2
import numpy as np

SIZE = 256  # of simulated pictures
Pair = np.ndarray | tuple[float, float]


def to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def smooth(rng: np.random.Generator, nodes: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draws a smooth random field in about [-1, 1]."""
    coarse = rng.uniform(-1, 1, (nodes, nodes))
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def leaves(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Draws overlapping shapes of all sizes, in flat or shaded greys, as in photographs."""
    height, width = shape
    plane: np.ndarray = np.full(shape, rng.integers(0, 256), np.uint8)
    for _ in range(count):
        grey = int(rng.integers(0, 256))
        centre = [int(v) for v in rng.uniform(0, 1, 2) * (width, height)]
        radius = float(np.exp(rng.uniform(np.log(3), np.log(0.6 * height))))
        kind = rng.integers(4)
        if kind == 0:
            axes = (int(radius), max(1, int(radius * rng.uniform(0.2, 1))))
            cv2.ellipse(plane, centre, axes, float(rng.uniform(0, 180)), 0, 360, grey, -1)
        elif kind == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            cv2.fillPoly(plane, [points.astype(np.int32)], grey)
        elif kind == 2:
            far = [int(v) for v in rng.uniform(0, 1, 2) * (width, height)]
            cv2.line(plane, centre, far, grey, int(rng.integers(1, 12)))
        else:
            corner = [int(c + radius * rng.uniform(0.3, 1)) for c in centre]
            cv2.rectangle(plane, centre, corner, grey, -1)
    if rng.random() < 0.5:  # shading, and the blur of a lens
        plane = to_uint8(plane / 255.0 + 0.4 * smooth(rng, int(rng.integers(3, 12)), shape))
        plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.5, 4))
    return plane


def noise(rng: np.random.Generator) -> np.ndarray:
    """Draws noise: white, coloured (spectrum 1 / f^a), in blocks, or salt and pepper."""
    kind = rng.integers(5)
    if kind == 0:
        block = int(rng.choice([1, 2, 4, 8, 16, 32, 64]))
        plane = rng.random((SIZE // block, SIZE // block))
        return to_uint8(cv2.resize(plane, (SIZE, SIZE), interpolation=cv2.INTER_NEAREST))
    if kind == 1:
        return (rng.random((SIZE, SIZE)) < rng.uniform(0.02, 0.5)).astype(np.uint8) * 255
    frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(SIZE, SIZE)))
    plane = np.fft.irfft2(spectrum / (frequency + 1 / SIZE) ** rng.uniform(0, 2.5), (SIZE, SIZE))
    return to_uint8(0.5 + plane / plane.std() * rng.uniform(0.02, 0.3))


def gradient(rng: np.random.Generator) -> np.ndarray:
    """Draws linear, radial or wavy shades, with a little noise; nearly blank ones too."""
    rows, columns = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    kind = rng.integers(3)
    if kind == 0:
        plane = np.cos(angle) * rows + np.sin(angle) * columns
    elif kind == 1:
        plane = np.hypot(rows - rng.uniform(-1, 1), columns - rng.uniform(-1, 1))
        plane = plane * rng.choice([-1, 1])
    else:
        along = np.cos(angle) * rows + np.sin(angle) * columns
        plane = np.sin(along * np.exp(rng.uniform(0.5, 4)) + rng.uniform(0, 6))
        if rng.random() < 0.3:
            plane = np.sign(plane) * np.sign(np.sin(12 * rows * rng.uniform(0.3, 1)))
    values = 0.5 + rng.uniform(0.02, 0.5) * plane
    return to_uint8(values + rng.normal(0, rng.choice([0.0, 0.01, 0.05]), values.shape))


def text(rng: np.random.Generator) -> np.ndarray:
    """Draws a page of lines, in black on white or the reverse, perhaps with a table or a figure."""
    plane = np.full((SIZE, SIZE), 255, np.uint8)
    size, row = rng.uniform(0.25, 0.8), int(rng.integers(10, 40))
    left = int(rng.integers(5, 50))
    while row < SIZE - 5:
        letters = "".join(map(chr, rng.integers(33, 122, int(rng.integers(4, 60)))))
        cv2.putText(plane, letters, (left, row), int(rng.integers(0, 5)), size, 0, 1)
        row += int(size * rng.uniform(25, 60))
    if rng.random() < 0.4:
        y, x = (int(v) for v in rng.integers(20, 120, 2))
        plane[y : y + 110, x : x + 110] = leaves(rng, int(rng.integers(3, 30)), (110, 110))
    return plane if rng.random() < 0.7 else 255 - plane


def ct_slice(rng: np.random.Generator) -> np.ndarray:
    """Draws an axial slice of a trunk: fat, muscle, spine, ribs; lungs or organs; a table.

    Outlines are ellipses that wobble, placed in units of the body's half axes.
    """
    plane: np.ndarray = np.zeros((SIZE, SIZE), np.float32)
    middle = np.array([SIZE / 2, SIZE / 2]) + rng.uniform(-12, 12, 2)
    half = SIZE * np.array([rng.uniform(0.36, 0.52), rng.uniform(0.2, 0.38)])
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)

    def blob(place: Pair, radii: Pair, grey: float, tilt: float = 0.0) -> None:
        order_4x1 = np.arange(2, 6)[:, None]
        waves = np.cos(order_4x1 * angles + rng.uniform(0, 6, (4, 1))) / (order_4x1 - 1)
        wobble = 1 + (rng.uniform(-0.12, 0.12, (4, 1)) * waves).sum(0)
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * np.asarray(radii) * half
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        points = middle + np.asarray(place) * half + wobble[:, None] * points @ turn
        cv2.fillPoly(plane, [np.rint(points * 16).astype(np.int32)], grey, cv2.LINE_AA, 4)

    soft = rng.uniform(0.4, 0.75)
    fat = soft - rng.uniform(0.05, 0.35)
    rim = rng.uniform(0.75, 0.95)
    blob((0, 0), (1, 1), fat)
    blob((0, 0), (rim, rim - 0.04), soft)
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(2, 9))):  # fat between muscles
        blob((0.8 * rim * np.cos(angle), 0.8 * rim * np.sin(angle)), rng.uniform(0.03, 0.2, 2), fat)
    if rng.random() < 0.6:
        lung = rng.uniform(0, 0.25)
        for side in (-1, 1):
            size = rng.uniform(0.8, 1.1) if rng.random() < 0.7 else rng.uniform(0.2, 0.7)
            place = (side * rng.uniform(0.36, 0.48), rng.uniform(-0.15, 0.25))
            blob(place, (0.36 * size, 0.66 * size), lung, side * rng.uniform(-0.1, 0.4))
        for _ in range(int(rng.integers(5, 60))):  # vessels
            blob(rng.uniform(-0.7, 0.7, 2), rng.uniform(0.005, 0.04, 2), soft)
        bright = rng.uniform(soft, 1)
        for _ in range(int(rng.integers(1, 5))):  # heart, great vessels
            place = (rng.uniform(-0.1, 0.25), rng.uniform(-0.5, 0.1))
            blob(place, rng.uniform(0.06, 0.4, 2), bright, rng.uniform(0, 3))
    else:
        for _ in range(int(rng.integers(4, 25))):  # organs, gas
            grey = rng.choice([0, fat, fat, soft - 0.05, soft + 0.05, soft + 0.2, 1])
            blob(rng.uniform(-0.6, 0.6, 2), np.exp(rng.uniform(-3, -0.9, 2)), float(grey))
    spine = rng.uniform(0.35, 0.6)
    for y, wide, deep in ((spine, 0.12, 0.2), (spine + 0.25, 0.2, 0.05), (spine + 0.3, 0.03, 0.15)):
        blob((0, y), (wide, deep), rng.uniform(0.85, 1))
    blob((0, spine + 0.17), (0.05, 0.07), soft)
    for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(4, 24))):  # ribs, scapulae
        along = rng.uniform(0.72, 0.88) * np.array([np.cos(angle), np.sin(angle)])
        blob(along, (rng.uniform(0.02, 0.12), 0.03), 0.95, np.pi / 2 + angle)
    if rng.random() < 0.7:  # the table
        y = int(middle[1] + rng.uniform(1.02, 1.3) * half[1]) - 40
        axes = (int(rng.uniform(90, 200)), int(rng.uniform(45, 60)))
        cv2.ellipse(plane, (SIZE // 2, y), axes, 0, 20, 160, 0.8, int(rng.integers(1, 3)))
    plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.4, 1.2))
    plane = plane + rng.normal(0, rng.uniform(0, 0.04), plane.shape) * (plane > 0.02)
    low = rng.uniform(0, 0.5) * soft if rng.random() < 0.5 else 0.0
    grey = to_uint8((plane - low) / (rng.uniform(0.8, 1.1) - low))
    return np.rot90(grey, int(rng.choice([0, 0, 0, 0, 1, 2, 3])))


def limb(rng: np.random.Generator) -> np.ndarray:
    """Draws bright tubes in softer ones on a dark or bright field: other bones than a chest's."""
    plane: np.ndarray = np.full((SIZE, SIZE), rng.uniform(0, 0.3), np.float32)
    for _ in range(int(rng.integers(1, 6))):
        ends = rng.uniform(-0.2, 1.2, (2, 2)) * SIZE
        first, last = (tuple(int(v) for v in end) for end in ends)
        thick, soft = int(rng.integers(6, 40)), float(rng.uniform(0.3, 0.6))
        cv2.line(plane, first, last, soft, 3 * thick)
        cv2.line(plane, first, last, soft + 0.35, thick)
        cv2.line(plane, first, last, soft + 0.15, max(1, thick // 3))
        cv2.circle(plane, last, thick, soft + 0.3, -1)
    plane = cv2.GaussianBlur(plane, (0, 0), rng.uniform(1, 4))
    return to_uint8(plane + rng.normal(0, 0.02, plane.shape))


def other(rng: np.random.Generator) -> np.ndarray:
    """Draws one of the pictures above."""
    kind = rng.random()
    if kind < 0.16:
        return noise(rng)
    if kind < 0.28:
        return gradient(rng)
    if kind < 0.37:
        return text(rng)
    if kind < 0.6:
        return leaves(rng, int(np.exp(rng.uniform(0.7, 6))), (SIZE, SIZE))
    if kind < 0.9:
        return ct_slice(rng)
    return limb(rng)
