"""Pixels -> tiny JPEG codestreams by ITU-T T.81: lossless of any precision, DCT of 8 or 12 bits.

No encoder at hand writes all of these, and values are only known where it shares no code with a decoder. All
Huffman codes of a table have one length, so that the table is its list of symbols.
"""

import numpy as np

ZIGZAG = sorted(range(64), key=lambda k: (k // 8 + k % 8, (k // 8 if (k // 8 + k % 8) % 2 else k % 8)))
EOB = 0x00


class Bits:
    """Bits into bytes, 0xFF stuffed (T.81 B.1.1.5)."""

    def __init__(self):
        self._text = []

    def put(self, value, count):
        if count:
            self._text.append(f"{value:0{count}b}")

    def data(self):
        text = "".join(self._text)
        text += "1" * (-len(text) % 8)
        return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)).replace(b"\xff", b"\xff\0")


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


def huffman(kind, symbols):
    """A DHT segment in which every symbol has a code of the same length, none of it all ones."""
    length = len(symbols).bit_length()
    counts = bytes(len(symbols) if n == length else 0 for n in range(1, 17))
    return segment(0xC4, bytes([kind << 4]) + counts + bytes(symbols)), length


def magnitude(bits, difference):
    """The bits of a difference behind its category (T.81 F.1.2.1.1)."""
    category = abs(difference).bit_length()
    bits.put(difference if difference >= 0 else difference + (1 << category) - 1, category)


def frame(marker, image, precision):
    rows, columns = image.shape[:2]
    count = image.shape[2] if image.ndim == 3 else 1
    parts = b"".join(bytes([n + 1, 0x11, 0]) for n in range(count))
    head = bytes([precision]) + rows.to_bytes(2) + columns.to_bytes(2) + bytes([count])
    return segment(marker, head + parts), count


def scan(count, first, last, low=0):
    parts = b"".join(bytes([n + 1, 0x00]) for n in range(count))
    return segment(0xDA, bytes([count]) + parts + bytes([first, last, low]))


def lossless(image, precision, predictor=1):
    """Process 14 (T.81 H): unsigned (rows, columns) or (rows, columns, 3), samples interleaved."""
    sof, count = frame(0xC3, image, precision)
    table, length = huffman(0, range(17))
    x = image.reshape(*image.shape[:2], count).astype(int)
    bits = Bits()
    for r in range(x.shape[0]):
        for c in range(x.shape[1]):
            for n in range(count):
                difference = (int(x[r, c, n]) - predicted(x[..., n], r, c, precision, predictor)) & 0xFFFF
                difference -= 0x10000 if difference > 0x8000 else 0
                category = abs(difference).bit_length()
                bits.put(category, length)
                if category < 16:  # 32768 has no further bits (H.1.2.2)
                    magnitude(bits, difference)
    return b"\xff\xd8" + sof + table + scan(count, predictor, 0) + bits.data() + b"\xff\xd9"


def predicted(x, r, c, precision, predictor):
    if r == 0:
        return int(x[0, c - 1]) if c else 1 << (precision - 1)
    if c == 0:
        return int(x[r - 1, 0])
    left, above, corner = int(x[r, c - 1]), int(x[r - 1, c]), int(x[r - 1, c - 1])
    return {
        1: left,
        2: above,
        3: corner,
        4: left + above - corner,
        5: left + ((above - corner) >> 1),
        6: above + ((left - corner) >> 1),
        7: (left + above) // 2,
    }[predictor]


def dct(image, precision, last=63):
    """Sequential DCT (T.81 F) with all quantisers 1, grey or three interleaved samples; 8 or 12 bits.

    ``last`` is the coefficient at which its scan claims to end, which is 63.
    """
    sof, count = frame(0xC0 if precision == 8 else 0xC1, image, precision)
    dc, dc_length = huffman(0, range(precision + 4))
    symbols = [EOB, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, precision + 3))]
    ac, ac_length = huffman(1, symbols)
    code = {symbol: n for n, symbol in enumerate(symbols)}
    rows, columns = image.shape[:2]
    x = image.reshape(rows, columns, count).astype(float) - (1 << (precision - 1))
    x = np.pad(x, ((0, -rows % 8), (0, -columns % 8), (0, 0)), mode="edge")
    k, n = np.mgrid[:8, :8]
    basis = np.cos((2 * n + 1) * k * np.pi / 16) * np.where(k == 0, np.sqrt(1 / 8), 1 / 2)
    bits, before = Bits(), [0] * count
    for r in range(0, x.shape[0], 8):
        for c in range(0, x.shape[1], 8):
            for part in range(count):
                block = np.rint(basis @ x[r : r + 8, c : c + 8, part] @ basis.T).astype(int)
                values = [int(block.ravel()[at]) for at in ZIGZAG]
                difference, before[part] = values[0] - before[part], values[0]
                bits.put(abs(difference).bit_length(), dc_length)
                magnitude(bits, difference)
                run = 0
                for value in values[1:]:
                    if value == 0:
                        run += 1
                        continue
                    for _ in range(run // 16):
                        bits.put(code[0xF0], ac_length)
                    bits.put(code[run % 16 << 4 | abs(value).bit_length()], ac_length)
                    magnitude(bits, value)
                    run = 0
                if run:
                    bits.put(code[EOB], ac_length)
    tables = segment(0xDB, b"\0" + b"\1" * 64) + sof + dc + ac
    return b"\xff\xd8" + tables + scan(count, 0, last) + bits.data() + b"\xff\xd9"
